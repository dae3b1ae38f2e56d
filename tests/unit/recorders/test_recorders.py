"""Files hold values with their steps, terminals words; curves and tables are of numbers that belong to steps."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from counterpoint.config.training import LogConfig
from counterpoint.recorders import RECORDERS
from counterpoint.recorders.csv.spec import CsvSection
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.numbers import numbers_of
from counterpoint.recorders.opened import open_recorders

STEP = Record(
    step=3, values={"loss": 2.5, "why_not": None, "modules": {"a": {"mfu": 0.5, "is_on": True}}},
    status=("loss 2.5", "lr 1"),
)  # fmt: skip
EVALUATION = Record(step=3, values={"evaluation": "held_out", "loss": 3.5, "losses": {"z": 0.25}}, words="evaluation")
RECORDS = (
    Record(step=0, values={"data": "train", "lost": 2}, words="train: 2 lost", of_step=False),
    Record(step=2),
    STEP,
    EVALUATION,
    Record(step=4, values={"skipped": ["the loss"], "why": "not finite"}, words="skipped"),
    Record(step=5, words="a note"),
)
NUMBERS = {"loss": 2.5, "modules/a/mfu": 0.5}
EVALUATED = {"evaluation/held_out/loss": 3.5, "evaluation/held_out/losses/z": 0.25}


def run(folder: Path, *kinds: str, goes_on: bool = False, records: tuple[Record, ...] = RECORDS) -> None:
    """A run with recorders of some kinds, as a config lists them."""
    sections = LogConfig.model_validate({"recorders": [{"kind": kind} for kind in kinds]}).recorders
    recording = Recording(folder=folder, steps=10, goes_on=goes_on)
    recorders = open_recorders(sections, recording, lambda _words: None)
    for record in records:
        for recorder in recorders:
            recorder.record(record)
    for recorder in recorders:
        recorder.close(True)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_lines_are_the_values_with_their_steps(tmp_path: Path) -> None:
    for goes_on, times in ((True, 1), (True, 2), (False, 1)):
        run(tmp_path, goes_on=goes_on)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert lines == [{"step": one.step, **one.values} for one in RECORDS if one.values] * times


def test_numbers_of_steps_and_evaluations_go_by_their_path() -> None:
    assert [numbers_of(record) for record in RECORDS] == [{}, {}, NUMBERS, EVALUATED, {}, {}]


def test_curves_are_of_the_numbers_of_steps(tmp_path: Path) -> None:
    run(tmp_path, "tensorboard")
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    points = {tag: [(one.step, one.value) for one in board.Scalars(tag)] for tag in board.Tags()["scalars"]}
    assert points == {name: [(3, value)] for name, value in (NUMBERS | EVALUATED).items()}


def test_a_terminal_shows_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "train: 2 lost", "step 3/10  loss 2.5  lr 1", "step 3/10  evaluation", "step 4/10  skipped",
        "step 5/10  a note",
    ]  # fmt: skip
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_table_has_a_row_for_each_record_of_numbers(tmp_path: Path) -> None:
    run(tmp_path, "csv")
    empty = dict.fromkeys((*NUMBERS, *EVALUATED), "")
    assert table(tmp_path) == [
        empty | {"step": "3"} | {name: str(value) for name, value in NUMBERS.items()},
        empty | {"step": "3"} | {name: str(value) for name, value in EVALUATED.items()},
    ]


def test_a_table_goes_on_behind_what_a_crash_left_whole(tmp_path: Path) -> None:
    run(tmp_path, "csv", records=(STEP,))
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,1.2")
    later = replace(STEP, step=5, values={"loss": 1.5, "more": 7, "a name, with a comma": 1})
    run(tmp_path, "csv", goes_on=True, records=(later,))
    assert [(row["step"], row["loss"], row["more"], row["a name, with a comma"]) for row in table(tmp_path)] == [
        ("3", "2.5", "", ""), ("5", "1.5", "7", "1"),
    ]  # fmt: skip
    run(tmp_path, "csv", records=(later,))
    assert [row["step"] for row in table(tmp_path)] == ["5"]


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        ({}, ["tensorboard"]),
        ({"tensorboard": True}, ["tensorboard"]),
        ({"tensorboard": False}, []),
        ({"recorders": []}, []),
        ({"recorders": [{"kind": "csv"}]}, ["csv"]),
        ({"recorders": [{"kind": "csv"}], "tensorboard": True}, ["csv", "tensorboard"]),
        ({"recorders": [{"kind": "tensorboard"}, {"kind": "csv"}], "tensorboard": False}, ["csv"]),
    ],
)
def test_configs_of_earlier_versions_list_the_same(keys: dict[str, Any], kinds: list[str]) -> None:
    log = LogConfig.model_validate(keys)
    assert [section.kind for section in log.recorders] == kinds
    assert LogConfig.model_validate(log.model_dump(mode="json")) == log


def test_two_of_a_kind_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []

    class Kind:
        is_remote = False

        def open(self, _section: CsvSection, recording: Recording) -> Any:
            names.append(recording.name)
            raise RuntimeError

    monkeypatch.setattr(RECORDERS, "_kinds", {"csv": Kind()})
    recording = Recording(folder=tmp_path, steps=1, goes_on=False)
    for recorder in open_recorders([CsvSection()] * 3, recording, names.append):
        recorder.close(True)
    assert names[::2] == ["csv", "csv-2", "csv-3"]


def test_a_line_that_a_crash_cut_off_takes_none_with_it(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "metrics.jsonl"
    before = file.read_text().splitlines()
    file.write_text(file.read_text() + '{"step": 8, "lo')
    run(tmp_path, goes_on=True)
    lines = file.read_text().splitlines()
    assert lines == [*before, '{"step": 8, "lo', *before]
    run(tmp_path, goes_on=True)
    assert file.read_text().splitlines() == [*lines, *before]
