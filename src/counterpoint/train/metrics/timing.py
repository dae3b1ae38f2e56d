"""The measured timelines of a few steps: when each rank began each action, in seconds since the step began."""

import json
import time
from pathlib import Path
from typing import Any, final

import torch

from counterpoint.config.run_files import TIMELINE_FILE
from counterpoint.execute.rank_log import OWN
from counterpoint.execute.tree import Tree
from counterpoint.plan.action import Action

_Mark = tuple[str, bool, Any]
"""The name of an action, whether its inputs have arrived or it begins, and when."""


@final
class TimedStep:
    """The marks of a step. On GPUs these are CUDA events, which are over once the step's results have been read."""

    def __init__(self, marks: list[_Mark], on_cuda: bool) -> None:
        self._marks, self._on_cuda = marks, on_cuda

    def actions(self) -> list[dict[str, Any]]:
        """The actions as {action, start, end} and, of those that wait for rows, `ready`: when these had arrived."""
        first = self._marks[0][2]
        times = [first.elapsed_time(mark) / 1000 if self._on_cuda else mark - first for _n, _a, mark in self._marks]
        found: list[dict[str, Any]] = []
        for (name, has_arrived, _mark), seconds in zip(self._marks[1:], times[1:], strict=True):
            if has_arrived:
                found[-1]["ready"] = seconds
                continue
            if found:
                found[-1]["end"] = seconds
            found.append({"action": name, "start": seconds})
        return found[:-1]


class StepTimer:
    """Marks the actions of one step, with CUDA events on the current stream or the clock; never waits."""

    def __init__(self, device: torch.device) -> None:
        self.device = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        self._on_cuda = device.type == "cuda"
        self._marks: list[_Mark] = []
        self._is_on = False

    def begin(self) -> None:
        """Start recording; ranks have just synchronised, so their time zero is the same moment."""
        self._marks, self._is_on = [], True
        self._note("begin")

    def observe(self, action: Action) -> None:
        """An action begins."""
        if self._is_on:
            self._note(str(action))

    def arrived(self, action: Action) -> None:
        """The rows that an action waits for have arrived."""
        if self._is_on:
            self._note(str(action), has_arrived=True)

    def end(self) -> TimedStep:
        """Stop recording."""
        self._note("end")
        self._is_on = False
        return TimedStep(self._marks, self._on_cuda)

    def _note(self, name: str, *, has_arrived: bool = False) -> None:
        if self._on_cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((name, has_arrived, event))
        else:
            self._marks.append((name, has_arrived, time.perf_counter()))


@final
class Timelines:
    """The timed steps of a run, of which the tree's first rank keeps a file in the run folder."""

    def __init__(self, run: Path, device: str, tree: Tree, rank: int) -> None:
        self._run, self._device, self._tree, self._rank = run, device, tree, rank
        self._steps: list[dict[str, Any]] = []

    def add(self, step: int, timed: TimedStep) -> None:
        """Gather all ranks' actions of a step whose results have been read, and write the file anew."""
        gathered = self._tree.gather((self._rank, timed.actions()))
        if gathered is not None:
            self._steps.append({"step": step, "ranks": {str(number): entries for number, entries in gathered}})
            text = json.dumps({"device": self._device, "steps": self._steps})
            try:
                (self._run / TIMELINE_FILE).write_text(text)
            except OSError as error:
                # A diagram less is no reason to end a training.
                OWN.warning("step %d: %s was not written (%s), training goes on", step, TIMELINE_FILE, error.strerror)
