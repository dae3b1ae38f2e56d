"""What metrics.jsonl says of a step: how long it took, and how unevenly its lanes were loaded."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from counterpoint.config.load import dump_config
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import StepInputs
from counterpoint.errors import ConfigError
from counterpoint.execute.waits import WaitClock
from counterpoint.plan.plan import Plan
from counterpoint.recorders.metric import METRICS, LoggedStep, Metric, perplexity
from counterpoint.report.run_record import GroupRecord, read_metrics
from counterpoint.report.training import write_report
from counterpoint.setup.rank import recorder_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import GroupResult, StepResult
from counterpoint.train.metrics.measures import imbalance
from counterpoint.train.metrics.recorder import RunRecorder
from counterpoint.train.nonfinite import Finding
from tests.parity.layouts import named_config, override

CONFIG = named_config("dp3_to_dp2")


def test_the_heaviest_lane_of_each_microbatch_counts() -> None:
    plan, _models, corpus = prepare_run(CONFIG)
    batch = plan.batch(0, corpus.packs(0))
    for module, rounds in batch.shares.items():
        cost = plan.facts[module].cost.of
        heaviest = mean = 0.0
        for lanes in rounds:
            loads = [sum(cost(span.rows_in) for span in lane.spans) for lane in lanes]
            heaviest, mean = heaviest + max(loads), mean + sum(loads) / len(loads)
        assert imbalance(plan, batch)[module] == pytest.approx(heaviest / mean, rel=1e-12)
        assert len(rounds) > 1


def recording(config: Config, plan: Plan, run: Path, monkeypatch: pytest.MonkeyPatch) -> RunRecorder:
    """The first rank's recorder, which hears nothing of other ranks."""
    control = SimpleNamespace(gather=lambda own: [own] * len(plan.placement.active))
    groups: Any = SimpleNamespace(world=SimpleNamespace(rank=0, device=torch.device("cpu")), control=control)
    return recorder_of(override(config, {"run.dir": str(run)}), plan, groups, WaitClock())


def test_the_report_names_the_steps_that_a_run_recorded_as_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(CONFIG, {"log.recorders": []})
    plan, _models, corpus = prepare_run(config)
    for begun, skipped in ((0, (2, 5)), (4, (6, 7))):
        recorder = recording(config, plan, tmp_path, monkeypatch)
        recorder.data(begun, corpus)
        for step in skipped:
            recorder.skipped(step, Finding(step - 1, ("the loss",), (), is_model=False, names=("document 7",)))
        recorder.close(True)
    (tmp_path / "config.yaml").write_text(dump_config(config))
    page = write_report(tmp_path).read_text()
    assert "Not finite, and therefore skipped without an update: steps 2, 6-7." in page


def test_seconds_and_tokens_are_of_the_steps_since_the_last_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(CONFIG, {"log.every_steps": 4, "log.recorders": []})
    plan, _models, corpus = prepare_run(config)
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    recorder = recording(config, plan, tmp_path, monkeypatch)
    norms = dict.fromkeys(plan.graph.modules, 1.0)
    result = StepResult(
        loss=1.0, balance_loss=0.0, mtp_loss=None, expert_load=None, norm=1.0, module_norms=norms,
        learning_rates=norms, stop=False, bad=1, ended=0.0, further={"language.z_loss": 2.5},
    )  # fmt: skip
    tokens, apart = [], 0.0
    for step in range(1, 10):
        batch = plan.batch(step, corpus.packs(step))
        tokens.append(sum(document.tokens for document in batch.documents))
        recorder.step(step, replace(result, ended=100.0 + step * 3.0 + apart), StepInputs(batch, {}, {}))
        if step in (4, 6):
            # A save or an evaluation between two steps.
            apart += 100.0
            recorder.leave_out(100.0)
    recorder.evaluation(9, "held", 1.5, {"language.z_loss": 2.0})
    recorder.close(True)
    *records, evaluated = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert evaluated == {"step": 9, "evaluation": "held", "loss": 1.5, "losses": {"language.z_loss": 2.0}}
    assert [record["losses"] for record in records] == [{"language.z_loss": 2.5}] * 3
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert "Loss: language.z_loss" in write_report(tmp_path).read_text()
    assert [record["step"] for record in records] == [1, 4, 8]
    assert [record["step_seconds"] for record in records] == pytest.approx([3.0, 3.0, 3.0])
    assert [record["bad_payloads"] for record in records] == [1, 3, 4]
    assert records[1]["tokens_per_second"] == pytest.approx(sum(tokens[1:4]) / 9.0)
    assert records[2]["tokens_per_second"] == pytest.approx(sum(tokens[4:8]) / 12.0)


def test_groups_have_a_rate_and_a_norm_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = override(CONFIG, {"log.recorders": []})
    plan, _models, corpus = prepare_run(config)
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    recorder = recording(config, plan, tmp_path, monkeypatch)
    norms = dict.fromkeys(plan.graph.modules, 1.0)
    groups = {"vision": {"projector.*": GroupResult(0.25, 3.0), "others": GroupResult(0.125, 4.0)}}
    result = StepResult(
        loss=1.0, balance_loss=0.0, mtp_loss=None, expert_load=None, norm=1.0, module_norms=norms,
        learning_rates=norms, stop=False, bad=0, ended=101.0, groups=groups,
    )  # fmt: skip
    recorder.step(1, result, StepInputs(plan.batch(0, corpus.packs(0)), {}, {}))
    recorder.close(True)
    modules = json.loads((tmp_path / "metrics.jsonl").read_text())["modules"]
    expected = {"learning_rate": 0.25, "gradient_norm": 3.0}
    assert modules["vision"]["groups"]["projector.*"] == expected
    assert "groups" not in modules["language"]
    (tmp_path / "config.yaml").write_text(dump_config(config))
    page = write_report(tmp_path).read_text()
    assert page.count("projector.*") >= 2
    read = read_metrics(tmp_path)
    assert read is not None
    assert read.steps[0].modules["vision"].groups["projector.*"] == GroupRecord(**expected)


def _with_metrics(monkeypatch: pytest.MonkeyPatch, **given: Metric) -> None:
    monkeypatch.setattr(METRICS, "_kinds", dict(METRICS.items()) | given)


def test_a_config_asks_for_metrics_of_logged_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is not finite is null; one that raises is said, and left out from then on."""

    def broken(step: LoggedStep) -> float:
        raise ValueError(f"no number at step {step.step}")

    _with_metrics(monkeypatch, tokens=lambda step: step.loss_tokens, nothing=lambda _step: math.nan, broken=broken)
    asked = ["perplexity", "tokens", "nothing", "broken"]
    plan, _models, corpus = prepare_run(CONFIG)
    config = override(CONFIG, {"log.recorders": [], "log.metrics": asked, "log.every_steps": 1})
    recorder = recording(config, plan, tmp_path, monkeypatch)
    batch, norms = plan.batch(0, corpus.packs(0)), dict.fromkeys(plan.graph.modules, 1.0)
    result = StepResult(
        loss=2.0, balance_loss=0.0, mtp_loss=None, expert_load=None, norm=1.0, module_norms=norms,
        learning_rates=norms, stop=False, bad=0, ended=2e9,
    )  # fmt: skip
    for step in (1, 2):
        recorder.step(step, replace(result, ended=step * 1e9), StepInputs(batch, {}, {}))
    recorder.close(is_finished=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    numbers = {"perplexity": pytest.approx(math.exp(2.0)), "tokens": batch.loss_tokens, "nothing": None}
    assert [line["metrics"] for line in lines if "metrics" in line] == [numbers, numbers]
    assert (
        capsys.readouterr().out.count("the metric broken raised ValueError: no number at step 1; it is left out") == 1
    )


def test_an_unknown_metric_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r'log\.metrics\.0: got "perplexities", expected "perplexity"'):
        override(CONFIG, {"log.metrics": ["perplexities"]})


def test_a_perplexity_is_a_number_or_infinite() -> None:
    step = LoggedStep(
        step=1, loss=0.0, loss_tokens=1, gradient_norm=0.0, step_seconds=1.0, tokens_per_second=1.0, learning_rates={},
        gradient_norms={}, losses={},
    )  # fmt: skip
    assert [perplexity(replace(step, loss=loss)) for loss in (0.0, 1e4)] == [1.0, math.inf]
