"""The measured timeline of one step: when each rank began each action, in seconds since the step began."""

import json
import time
from pathlib import Path
from typing import Any

import torch

from counterpoint.config.run_files import TIMELINE_FILE
from counterpoint.execute.tree import Tree
from counterpoint.plan.action import Action


class StepTimer:
    """Records the start and end of the actions of one step, with CUDA events on the current stream or the clock."""

    def __init__(self, device: torch.device) -> None:
        self._on_cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []
        self._is_on = False

    def begin(self) -> None:
        """Start recording; ranks have just synchronised, so their time zero is the same moment."""
        self._marks, self._is_on = [], True
        self._note("begin")

    def observe(self, action: Action) -> None:
        """An action begins."""
        if self._is_on:
            self._note(str(action))

    def end(self) -> list[dict[str, Any]]:
        """Stop recording and return the actions as {action, start, end}; waits for the device."""
        self._note("end")
        self._is_on = False
        times = self._seconds()
        names = [name for name, _mark in self._marks]
        return [
            {"action": name, "start": start, "end": stop}
            for name, start, stop in zip(names[1:-1], times[1:-1], times[2:], strict=True)
        ]

    def _note(self, name: str) -> None:
        if self._on_cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append((name, event))
        else:
            self._marks.append((name, time.perf_counter()))

    def _seconds(self) -> list[float]:
        first = self._marks[0][1]
        if not self._on_cuda:
            return [mark - first for _name, mark in self._marks]
        torch.cuda.synchronize()
        return [first.elapsed_time(event) / 1000 for _name, event in self._marks]


def write_timeline(run: Path, step: int, actions: list[dict[str, Any]], tree: Tree, rank: int) -> None:
    """Gather all ranks' actions and write them to the run folder from the tree's first rank."""
    gathered = tree.gather((rank, actions))
    if gathered is not None:
        ranks = {str(number): entries for number, entries in gathered}
        (run / TIMELINE_FILE).write_text(json.dumps({"step": step, "ranks": ranks}))
