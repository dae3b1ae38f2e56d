"""Timed steps on the clock of a CPU: marks of actions and of the rows that they wait for."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from counterpoint.plan.action import Compute, parse_action
from counterpoint.train.loop import Pace
from counterpoint.train.metrics.timing import StepTimer, TimedStep, Timelines


def test_an_action_lasts_until_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((10.0, 11.0, 12.5, 14.0, 15.0, 16.0))
    monkeypatch.setattr("counterpoint.train.metrics.timing.time.perf_counter", lambda: next(times))
    timer = StepTimer(torch.device("cpu"))
    first, second, last = (parse_action(text) for text in ("vision.0F0", "vision.0>language.0F0", "S"))
    timer.observe(first)  # Not recorded: no step has begun.
    timer.begin()
    timer.observe(first)
    timer.arrived(first)
    timer.observe(second)
    timer.observe(last)
    assert timer.end().actions() == [
        {"action": "vision.0F0", "start": 1.0, "ready": 2.5, "end": 4.0},
        {"action": "vision.0>language.0F0", "start": 4.0, "end": 5.0},
        {"action": "S", "start": 5.0, "end": 6.0},
    ]
    assert isinstance(first, Compute)


def test_every_timed_step_is_in_the_file(tmp_path: Path) -> None:
    alone: Any = SimpleNamespace(gather=lambda own: [own])
    timelines = Timelines(tmp_path, "cpu", alone, 0)
    for step in (2, 4):
        timelines.add(step, TimedStep([("begin", False, 0.0), ("S", False, 1.0), ("end", False, 2.0)], on_cuda=False))
    written = json.loads((tmp_path / "timeline.json").read_text())
    assert written["device"] == "cpu"
    assert [one["step"] for one in written["steps"]] == [2, 4]
    assert written["steps"][0]["ranks"] == {"0": [{"action": "S", "start": 1.0, "end": 2.0}]}


def test_a_timeline_that_cannot_be_written_ends_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone: Any = SimpleNamespace(gather=lambda own: [own])
    timelines = Timelines(tmp_path / "gone", "cpu", alone, 0)
    with caplog.at_level(logging.WARNING):
        timelines.add(2, TimedStep([("begin", False, 0.0), ("S", False, 1.0), ("end", False, 2.0)], on_cuda=False))
    assert "step 2: timeline.json was not written (No such file or directory), training goes on" in caplog.text


def test_timed_steps_count_from_the_start_and_a_short_run_times_its_last() -> None:
    pace = Pace(10, None, None, (3, 5))
    assert [step for step in range(10) if pace.is_timed(step, 0)] == [2, 4]
    assert [step for step in range(6, 10) if pace.is_timed(step, 6)] == [8, 9]
    assert not any(Pace(10, None, None, ()).is_timed(step, 0) for step in range(10))
