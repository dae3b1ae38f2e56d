"""Documents that training would lose: said by `plan`, in metrics and in the report, and refused before ranks start."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from counterpoint.config.load import load_config
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.execute.waits import WaitClock
from counterpoint.report.training import write_report
from counterpoint.setup.rank import recorder_of
from counterpoint.setup.run import prepare_run
from tests.unit.cli.conftest import Command, write
from tests.unit.report.pages import Page

WORDS = "word " * 100


def _turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


@pytest.fixture
def lossy(settings: dict[str, Any], pictures: Path, tmp_path: Path) -> dict[str, Any]:
    """A config on splits of which much is lost: `cut` wholly, `part` in two of eight, `good` not at all."""
    raw = tmp_path / "raw"
    raw.mkdir()
    good, cut = {"conversations": _turns("a", "b")}, {"conversations": _turns(WORDS, "b")}
    for split, records in (("cut", [cut] * 3), ("part", [good, cut, good, good] * 2), ("good", [good])):
        (raw / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    prepare(str(raw), tmp_path / "lossy", PrepareOptions(tokenizer=pictures / "tokenizer.json"))
    entry = {"path": str(tmp_path / "lossy"), "split": "good"}
    settings["data"] |= {"train": [entry], "evaluation": [{"path": str(pictures), "split": "held_out"}]}
    return settings


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize("kind", ["train", "evaluation"])
def test_a_dataset_without_a_loss_token_is_refused(
    counterpoint: Command, lossy: dict[str, Any], tmp_path: Path, command: str, kind: str
) -> None:
    lossy["data"][kind] = [{"path": str(tmp_path / "lossy"), "split": "cut"}]
    ended = counterpoint(command, write(lossy, tmp_path / "config.yaml"), "data.max_lost=1.0")
    assert ended.code == 2
    name = {"train": f"train {tmp_path}/lossy:cut", "evaluation": "evaluation cut"}[kind]
    assert f"data, {name}: no document has a loss token, so nothing would be learned (3 documents: 3 kept" in ended.err
    assert "3 of them cut; 3 without loss that have all targets beyond the cut at data.sequence_tokens" in ended.err


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize("kind", ["train", "evaluation"])
def test_a_dataset_of_which_more_than_a_share_is_lost_is_refused(
    counterpoint: Command, lossy: dict[str, Any], tmp_path: Path, command: str, kind: str
) -> None:
    lossy["data"][kind] = [{"path": str(tmp_path / "lossy"), "split": "part"}]
    ended = counterpoint(command, write(lossy, tmp_path / "config.yaml"))
    assert ended.code == 2
    assert "25.0% of the documents are lost (8 documents: 8 kept, 2 of them cut; 2 without loss that" in ended.err
    assert "expected at most 10.0%" in ended.err
    assert "or raise data.max_lost" in ended.err


def test_the_plan_says_what_is_lost(counterpoint: Command, lossy: dict[str, Any], tmp_path: Path) -> None:
    lossy["data"] |= {"train": [{"path": str(tmp_path / "lossy"), "split": "part"}], "max_lost": 0.25}
    ended = counterpoint("plan", write(lossy, tmp_path / "config.yaml"))
    assert ended.code == 0, ended.err
    assert f"train {tmp_path}/lossy:part: 8 documents: 8 kept, 2 of them cut; 2 without loss that have all" in ended.out
    assert "evaluation held_out: 4 documents: all kept whole" in ended.out


def test_training_says_and_records_what_is_lost(
    lossy: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lossy["data"] |= {"train": [{"path": str(tmp_path / "lossy"), "split": "part"}], "max_lost": 0.25}
    lossy["log"] = {"tensorboard": True}
    run = tmp_path / "run"
    run.mkdir()
    config = load_config(write(lossy, run / "config.yaml"))
    plan, _models, corpus = prepare_run(config)

    world = SimpleNamespace(rank=plan.placement.active[0], device=torch.device("cpu"))
    groups: Any = SimpleNamespace(world=world, control=SimpleNamespace())
    recorder = recorder_of(config, plan, groups, WaitClock())
    recorder.data(3, corpus)
    recorder.close(True)
    said = capsys.readouterr().out
    assert "lossy:part: 8 documents: 8 kept, 2 of them cut; 2 without loss" in said.replace("\n", " ")
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(r["step"], r["data"].split("/")[-1], r["documents"], r["lost"], r["cut"]) for r in records] == [
        (3, "lossy:part", 8, 2, 2),
        (3, "evaluation held_out", 4, 0, 0),
    ]
    page = Page(write_report(run).read_text())
    assert "2 have all targets beyond the cut at data.sequence_tokens" in page.text
    assert "lines of metrics.jsonl could not be read" not in page.text
