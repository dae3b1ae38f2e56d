"""A second process takes a part of a simulation and changes nothing of what is found, not even by its end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from multiprocessing import Pipe, active_children
from types import SimpleNamespace
from unittest.mock import Mock, patch

import pytest

from counterpoint.errors import InputError
from counterpoint.plan.plan import Plan
from counterpoint.search import second
from counterpoint.search.candidate import Candidate
from counterpoint.search.find import measured
from counterpoint.search.scoring import Scorer
from counterpoint.search.second import NAME, beside
from counterpoint.simulate.figures import StepFigures
from tests.unit.search.worlds import PAIR, Small, small

INTERRUPTS = SimpleNamespace(are_sent=False)


def interrupt() -> None:
    """Ctrl-C as a process has just forked."""
    if INTERRUPTS.are_sent:
        os.kill(os.getpid(), signal.SIGINT)
        # Time for whichever thread gets it.
        time.sleep(0.02)


os.register_at_fork(after_in_parent=interrupt)


@pytest.fixture(scope="module")
def pair() -> Small:
    return small(PAIR, 2)


@pytest.fixture
def scorer(pair: Small, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """With three drawn steps, in a process that may fork though the tests have loaded torch."""
    monkeypatch.setattr(second, "_can_fork", lambda: True)
    monkeypatch.setattr(second, "_cores", lambda: 2)
    return replace(pair.scorer, steps=measured(pair.config, 3)[1].steps)


def candidate_of(pair: Small) -> Candidate:
    return pair.walk(4).run().outcomes[0].candidate


def test_two_processes_find_what_one_finds(pair: Small, scorer: Scorer) -> None:
    outcomes = replace(pair.walk(12), scorer=scorer).run().outcomes
    with beside(scorer) as other:
        assert other is not None
        assert replace(pair.walk(12), scorer=scorer, second=other).run().outcomes == outcomes


def test_every_other_step_is_played_there(pair: Small, scorer: Scorer) -> None:
    candidate = candidate_of(pair)
    plan = scorer.plan(candidate)
    with beside(scorer) as other, patch.object(Scorer, "figures", autospec=True, side_effect=Scorer.figures) as played:
        assert other is not None
        assert other.score(candidate, plan) == scorer.score(plan)
    assert [list(call.args[2]) for call in played.call_args_list] == [[0, 2], [0, 1, 2]]


def test_without_the_second_process_the_first_goes_on(pair: Small, scorer: Scorer) -> None:
    candidate = candidate_of(pair)
    plan = scorer.plan(candidate)
    with beside(scorer) as other:
        assert other is not None
        os.kill(its_number(), signal.SIGKILL)
        for _again in range(2):
            assert other.score(candidate, plan) == scorer.score(plan)


def test_what_it_cannot_do_is_done_here(pair: Small, scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = candidate_of(pair)
    plan = scorer.plan(candidate)
    alone, here = scorer.score(plan), os.getpid()
    real = Scorer.figures

    def only_here(self: Scorer, plan: Plan, steps: Iterable[int]) -> list[StepFigures]:
        if os.getpid() != here:
            raise InputError("not there")
        return real(self, plan, steps)

    monkeypatch.setattr(Scorer, "figures", only_here)
    with beside(scorer) as other:
        assert other is not None
        assert other.score(candidate, plan) == alone
        assert other.score(candidate, plan) == alone
        os.kill(its_number(), 0)


def test_what_neither_can_do_is_raised_as_by_one(pair: Small, scorer: Scorer) -> None:
    candidate = candidate_of(pair)
    plan = scorer.plan(candidate)
    broken = replace(scorer, hardware=replace(scorer.hardware, products={}))
    with pytest.raises(InputError) as alone:
        broken.score(plan)
    with beside(broken) as other:
        assert other is not None
        for _again in range(2):
            with pytest.raises(InputError) as both:
                other.score(candidate, plan)
            assert str(both.value) == str(alone.value)


def test_it_ends_when_nobody_waits_for_its_answer(pair: Small, scorer: Scorer) -> None:
    asks, answers = Pipe()
    asks.send(candidate_of(pair))
    asks.close()
    second._answer(scorer, answers)


def test_an_interrupt_of_the_fork_is_heard_after_it(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in what runs after a fork is printed and forgotten; the signal may come to any thread."""
    stopped = threading.Event()
    thread = threading.Thread(target=stopped.wait, daemon=True)
    thread.start()
    monkeypatch.setattr(INTERRUPTS, "are_sent", True)
    with pytest.raises(KeyboardInterrupt), beside(scorer):
        raise AssertionError("the interrupt comes first")
    stopped.set()
    thread.join()
    assert not [each for each in active_children() if each.name == NAME]


def test_without_room_for_a_process_there_is_none(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", Mock(side_effect=BlockingIOError))
    with beside(scorer) as other:
        assert other is None


def test_it_ends_with_its_search(scorer: Scorer) -> None:
    with beside(scorer) as other:
        assert other is not None
        child = its_number()
        os.kill(child, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_there_is_none_where_nothing_is_left_for_it_or_a_fork_is_not_safe(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with beside(replace(scorer, steps=scorer.steps[:1])) as other:
        assert other is None
    monkeypatch.undo()
    monkeypatch.setattr(second, "_cores", lambda: 2)
    monkeypatch.setitem(sys.modules, "torch", sys)
    with beside(scorer) as other:
        assert other is None
    monkeypatch.delitem(sys.modules, "torch")
    with monkeypatch.context() as patch_of_daemon:
        patch_of_daemon.setattr(second, "current_process", lambda: Mock(daemon=True))
        with beside(scorer) as other:
            assert other is None
    stopped = threading.Event()
    thread = threading.Thread(target=stopped.wait, daemon=True)
    thread.start()
    with beside(scorer) as other:
        assert other is None
    stopped.set()
    thread.join()


def its_number() -> int:
    """The number of the second process."""
    (number,) = (each.pid for each in active_children() if each.name == NAME)
    assert number is not None
    return number
