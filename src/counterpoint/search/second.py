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
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import current_process, get_all_start_methods, get_context
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
    """A second process as long as it is needed; None where there is nothing for it to do, or none can be had safely."""
    with ExitStack() as stack:
        pipe = None
        if len(scorer.steps) > 1 and _cores() > 1 and _can_fork():
            with _uninterrupted():
                pipe = _started(scorer, stack)
        yield None if pipe is None else Second(scorer, pipe)


def _started(scorer: Scorer, stack: ExitStack) -> "Connection[object, object] | None":
    """The pipe to a second process, which ends with the stack; None if the system has no room for one."""
    context = get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(scorer, here, there), name=NAME, daemon=True)
    stack.callback(here.close)
    with there, warnings.catch_warnings():
        # Libraries that compute in threads of their own have some; the fork calls none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            process.start()
        except OSError:
            return None
    stack.callback(process.join)
    # Not asked to end: a handler of this process would run there.
    stack.callback(process.kill)
    return here


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A time after which an interrupt of it is heard: Python forgets one that comes while it forks.

    It is noted, not blocked: the system would give it to a thread of a library that blocks nothing.
    """
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _can_fork() -> bool:
    """Whether a fork of this process can go on: no other thread of Python may hold a lock in it, nor torch a device; on
    macOS the system's own libraries may not. What multiprocessing calls a daemon may have none."""
    is_supported = "fork" in get_all_start_methods() and sys.platform != "darwin" and not current_process().daemon
    # A handler that is not Python's could not be put back.
    is_ours = signal.getsignal(signal.SIGINT) is not None
    return is_supported and is_ours and threading.active_count() == 1 and "torch" not in sys.modules


@final
class Second:
    """What plays in two processes, one candidate at a time."""

    def __init__(self, scorer: Scorer, pipe: "Connection[object, object]") -> None:
        self._scorer, self._pipe, self._is_there = scorer, pipe, True

    def score(self, candidate: Candidate, plan: Plan) -> Score:
        """What the step of a candidate with this plan takes on average; raises what `Scorer.score` does."""
        count = len(self._scorer.steps)
        self._begin(candidate)
        mine: list[StepFigures] | None = None
        with suppress(CounterpointError):
            mine = self._scorer.figures(plan, range(0, count, 2))
        others = self._ended()
        if mine is None or others is None:
            return self._scorer.score(plan)
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
    """The life of the second process. Who interrupts a search interrupts both, but this one ends with the other."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    theirs.close()
    _answer(scorer, pipe)


def _answer(scorer: Scorer, pipe: "Connection[object, object]") -> None:
    """Play steps of candidates until nobody asks for more, or waits for them."""
    with suppress(OSError, EOFError):
        while True:
            candidate = pipe.recv()
            assert isinstance(candidate, Candidate)
            found: list[StepFigures] | None = None
            with suppress(CounterpointError):
                found = scorer.figures(scorer.plan(candidate), range(1, len(scorer.steps), 2))
            pipe.send(found)
