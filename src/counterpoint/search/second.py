"""A second process that plays every other step of a candidate, while this one plays the rest: two cores, half the time.

It is a fork, so it has the models, the data and the machine's figures as this process has them. What it cannot do this
process does, and so raises what there is to raise.
"""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import final

from counterpoint.errors import CounterpointError
from counterpoint.plan.plan import Plan
from counterpoint.search.candidate import Candidate
from counterpoint.search.scoring import Score, Scorer, score_of
from counterpoint.simulate.figures import StepFigures

NAME = "counterpoint search"
"""The name of the second process."""


@contextmanager
def beside(scorer: Scorer) -> Iterator["Second | None"]:
    """A second process as long as it is needed; None where there is nothing for it to do, or a fork is not safe."""
    if len(scorer.steps) < 2 or _cores() < 2 or not _can_fork():
        yield None
        return
    context = get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(scorer, here, there), name=NAME, daemon=True)
    with warnings.catch_warnings():
        # Libraries that compute in threads of their own have some; the fork calls none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    there.close()
    try:
        yield Second(scorer, here)
    finally:
        here.close()
        process.terminate()
        process.join()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _can_fork() -> bool:
    """Whether a fork of this process can go on: no other thread of Python may hold a lock in it, nor torch a device; on
    macOS the system's own libraries may not."""
    is_supported = "fork" in get_all_start_methods() and sys.platform != "darwin"
    return is_supported and threading.active_count() == 1 and "torch" not in sys.modules


@final
class Second:
    """What plays in two processes, one candidate at a time."""

    def __init__(self, scorer: Scorer, pipe: "Connection[object, object]") -> None:
        self._scorer, self._pipe, self._is_there = scorer, pipe, True

    def score(self, candidate: Candidate, plan: Plan) -> Score:
        """What the step of a candidate with this plan takes on average; raises what `Scorer.score` does."""
        count = len(self._scorer.steps)
        self._begin(candidate)
        try:
            mine = self._scorer.figures(plan, range(0, count, 2))
        finally:
            others = self._ended()
        if others is None:
            others = self._scorer.figures(plan, range(1, count, 2))
        figures = dict(zip(range(0, count, 2), mine, strict=True)) | dict(zip(range(1, count, 2), others, strict=True))
        return score_of([figures[step] for step in range(count)])

    def _begin(self, candidate: Candidate) -> None:
        if self._is_there:
            try:
                self._pipe.send(candidate)
            except OSError:
                self._is_there = False

    def _ended(self) -> list[StepFigures] | None:
        """What the other process has found; None if it could not, or is gone."""
        if self._is_there:
            try:
                found = self._pipe.recv()
            except (OSError, EOFError):
                self._is_there = False
            else:
                assert found is None or isinstance(found, list)
                return found
        return None


def _serve(scorer: Scorer, theirs: "Connection[object, object]", pipe: "Connection[object, object]") -> None:
    """Play steps of candidates until nobody asks for more."""
    # Who interrupts a search interrupts both; this one ends with the other.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    theirs.close()
    while True:
        try:
            candidate = pipe.recv()
        except (OSError, EOFError):
            return
        assert isinstance(candidate, Candidate)
        try:
            pipe.send(scorer.figures(scorer.plan(candidate), range(1, len(scorer.steps), 2)))
        except CounterpointError:
            pipe.send(None)
