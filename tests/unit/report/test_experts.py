"""A report shows losses beside the main one and how evenly experts are loaded, as far as a run recorded them."""

import json
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import dump_config, load_config
from counterpoint.report.experts import MOST_COLUMNS, expert_section
from counterpoint.report.run_record import Load, read_metrics
from counterpoint.report.run_text import last_step_lines
from counterpoint.report.training import write_report
from tests.unit.report.pages import EXAMPLES, Page

LAYERS = ("language.layers.1.moe", "language.mtp.1.layers.0.moe")


def record(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step, "loss": 2.0, "loss_tokens": 400, "tokens_per_second": 5000.0, "step_seconds": 0.5,
        "gradient_norm": 0.7, "bad_payloads": 0, "modules": {}, **more,
    }  # fmt: skip


def routed(step: int, *loads: tuple[float, float]) -> dict[str, Any]:
    by_layer = {layer: {"least": least, "most": most} for layer, (least, most) in zip(LAYERS, loads)}
    return record(step, mtp_loss=3.25, balance_loss=1.5e-4, losses={"z": 0.125}, expert_loads=by_layer)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(dump_config(load_config(EXAMPLES / "synthetic_disjoint.yaml")))
    return tmp_path


def write(run: Path, *records: dict[str, Any]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))


def test_losses_beside_the_main_one_have_curves(run: Path) -> None:
    write(run, record(1), routed(2, (0.5, 1.5), (0.9, 1.1)))
    metrics = read_metrics(run)
    assert metrics is not None
    assert metrics.steps[0].losses == {}
    assert metrics.steps[1].losses == {"multi-token prediction": 3.25, "balance of experts": 1.5e-4, "z": 0.125}
    assert metrics.steps[1].loads == {LAYERS[0]: Load(0.5, 1.5), LAYERS[1]: Load(0.9, 1.1)}
    page = Page(write_report(run).read_text())
    for words in ("Loss: multi-token prediction", "Loss: balance of experts", "Loss: z", "Expert load"):
        assert words in page.text


def test_the_picture_has_every_layer_and_step(run: Path) -> None:
    write(run, *(routed(step, (0.5, 1.0 + step / 10), (0.9, 1.1)) for step in range(1, 11)))
    drawn = expert_section(read_metrics(run))
    for step in range(1, 11):
        assert f"language.layers.1.moe, step {step}: {1.0 + step / 10:.4g}<" in drawn
        assert f"language.mtp.1.layers.0.moe, step {step}: 1.1<" in drawn
    assert "0.5 to 2<" in drawn
    shades = {step: drawn.split(f"layers.1.moe, step {step}: ")[0].rsplit('fill="', 1)[1][:7] for step in (1, 5, 10)}
    assert len(set(shades.values())) == 3, "the darker, the more uneven"


def test_a_long_run_is_thinned_to_its_last_step(run: Path) -> None:
    steps = 5 * MOST_COLUMNS + 3
    write(run, *(routed(step, (0.5, 1.5), (1.0, 1.0)) for step in range(1, steps + 1)))
    drawn = expert_section(read_metrics(run))
    assert drawn.count("language.layers.1.moe, step") <= MOST_COLUMNS + 1
    assert f"language.layers.1.moe, step {steps}:" in drawn


def test_even_experts_and_none_are_drawn_without_a_fault(run: Path) -> None:
    write(run, routed(1, (1.0, 1.0), (0.0, 0.0)))
    assert "Expert load" in expert_section(read_metrics(run))
    write(run, record(1))
    assert expert_section(read_metrics(run)) == ""
    assert expert_section(None) == ""
    assert "Expert load" not in Page(write_report(run).read_text()).text


def test_the_last_step_is_said_in_lines(run: Path) -> None:
    assert list(last_step_lines(run)) == []
    write(run, routed(2, (0.5, 1.5), (0.9, 1.1)), {"step": 2, "evaluation": "held", "loss": 2.5})
    assert list(last_step_lines(run)) == [
        "step 2: loss 2  multi-token prediction 3.25  balance of experts 1.5e-4  z 0.125",
        "expert load: 0.5 to 1.5 of the mean in language.layers.1.moe, the most uneven of 2 layers",
        "evaluation held, step 2: loss 2.5",
    ]
