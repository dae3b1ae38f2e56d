"""Files hold values with their steps, terminals words; curves are of numbers that belong to steps."""

import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from counterpoint.config.training import LogConfig
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.kind import Record, Recording

STEP = Record(
    step=3, values={"loss": 2.5, "why_not": None, "modules": {"a": {"mfu": 0.5}}}, status=("loss 2.5", "lr 1")
)
RECORDS = (
    Record(step=0, values={"data": "train", "lost": 2}, words="train: 2 lost", of_step=False),
    Record(step=2),
    STEP,
    Record(step=3, values={"evaluation": "held_out", "loss": 3.5}, words="evaluation"),
    Record(step=4, values={"skipped": ["the loss"], "why": "not finite"}, words="skipped"),
    Record(step=5, words="a note"),
)


def run(kind: str, folder: Path, *, goes_on: bool = False) -> None:
    recorder = RECORDERS[kind].open(Recording(folder, 10, goes_on))
    for record in RECORDS:
        recorder.record(record)
    recorder.close()


def test_lines_are_the_values_with_their_steps(tmp_path: Path) -> None:
    for goes_on, times in ((True, 1), (True, 2), (False, 1)):
        run("json_lines", tmp_path, goes_on=goes_on)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert lines == [{"step": one.step, **one.values} for one in RECORDS if one.values] * times


def test_curves_are_of_the_numbers_of_steps(tmp_path: Path) -> None:
    run("tensorboard", tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = {tag: [(one.step, one.value) for one in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    assert points == {"loss": [(3, 2.5)], "modules/a/mfu": [(3, 0.5)], "evaluation/held_out/loss": [(3, 3.5)]}


def test_a_terminal_shows_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("terminal", tmp_path)
    shown = [
        "train: 2 lost",
        "step 3/10  loss 2.5  lr 1",
        "step 3/10  evaluation",
        "step 4/10  skipped",
        "step 5/10  a note",
    ]
    assert capsys.readouterr().out.splitlines() == shown
    assert list(tmp_path.iterdir()) == []


def test_a_config_wants_all_but_what_it_turns_off() -> None:
    wanted = [name for name, kind in RECORDERS.items() if kind.is_wanted(LogConfig(tensorboard=False))]
    assert wanted == ["terminal", "json_lines"]
    assert all(kind.is_wanted(LogConfig()) for kind in RECORDERS.values())
