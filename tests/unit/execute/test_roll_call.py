"""Roll calls and suspicions of several ranks, played on one store without processes."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from counterpoint.check.blame import CONTROL, STORAGE, Position, Verdict, find_origin
from counterpoint.execute import watchdog as module
from counterpoint.execute.failure import Failure, FailureBoard
from counterpoint.execute.rollcall import RollCall
from counterpoint.execute.watchdog import Watchdog
from counterpoint.execute.whereabouts import Limit

RANKS = (0, 1, 2)
MEMBERS = {CONTROL: RANKS, STORAGE: RANKS}


def test_one_calls_all_answer_and_the_numbers_go_up() -> None:
    store = HashStore()
    rolls = [RollCall(store, rank, lambda rank=rank: Position("reading", rank)) for rank in RANKS]  # type: ignore[misc]
    assert not rolls[1].answer()
    number = rolls[0].call()
    assert number == 0
    assert rolls[1].call() is None
    assert rolls[2].answer()
    found = rolls[0].gather(number, RANKS, 60.0)
    assert found == {rank: Position("reading", rank) for rank in RANKS}
    rolls[0].grant(number, 7.5)
    assert [roll.granted() for roll in rolls] == [7.5] * 3
    assert [roll.granted() for roll in rolls] == [None] * 3, "it is granted once"
    assert rolls[1].call() == 1
    assert [roll.granted() for roll in rolls] == [None] * 3
    assert rolls[1].gather(1, RANKS, 0.0)[2] is None


def test_a_position_comes_back_as_it_was_said() -> None:
    """As a device that works after its host has it, too."""
    device = ("training", 2, None)
    said = Position("training", 3, action="S", index=7, reached=4, device=device, calls={"a": 1}, seconds=0.1, left=2.0)
    for position in (said, Position("start-up")):
        roll = RollCall(HashStore(), 0, lambda position=position: position)  # type: ignore[misc]
        number = roll.call()
        assert number is not None
        assert roll.gather(number, (0,), 0.0) == {0: position}


def _world(
    monkeypatch: pytest.MonkeyPatch, folder: Path, counts: dict[int, int], limit: dict[int, float]
) -> list[Watchdog]:
    """Watchdogs of ranks that read; each has begun so many collectives, and its limit is what is given."""
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(module.Watchdog, "_leave_after", lambda _watchdog, _failure: None)
    store = HashStore()
    dogs = []
    for rank in RANKS:
        dog = Watchdog(rank, 1.0, folder, FailureBoard(store))
        dog.watch(RANKS, MEMBERS, lambda rank=rank: {CONTROL: counts[rank]}, torch.device("cpu"))  # type: ignore[misc]
        dog.enter("reading", 5, Limit("watchdog.timeout_seconds", limit[rank]))
        dogs.append(dog)
    return dogs


def _suspect(dogs: list[Watchdog], caller: int, answering: tuple[int, ...]) -> Failure | None:
    threads = [threading.Thread(target=_answer, args=(dogs[rank],)) for rank in answering]
    for thread in threads:
        thread.start()
    dogs[caller]._suspect()
    for thread in threads:
        thread.join()
    return dogs[caller]._board.first()


def _answer(dog: Watchdog) -> None:
    while not (dog._roll.answer() or dog._stop.is_set()):
        pass


def test_who_waits_does_not_accuse_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dogs = _world(monkeypatch, tmp_path, {0: 4, 1: 3, 2: 4}, {0: -1.0, 1: -1.0, 2: -1.0})
    failure = _suspect(dogs, 0, (1, 2))
    assert failure is not None
    assert (failure.rank, failure.teller, failure.step) == (1, 0, 5)
    assert "rank 1 made no progress in step 5: reading" in failure.message
    assert "ranks 0 and 2 wait for it" in failure.message
    assert failure.waits == {"0": "rank 1 (a collective on control)", "2": "rank 1 (a collective on control)"}


def test_all_wait_as_long_as_the_one_they_wait_for_may_take(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own limit, that of a load for one, is the one that counts."""
    dogs = _world(monkeypatch, tmp_path, {0: 4, 1: 3, 2: 4}, {0: -1.0, 1: 900.0, 2: -1.0})
    assert dogs[0]._is_overdue()
    assert _suspect(dogs, 0, (1, 2)) is None
    for dog in dogs:
        dog._look()
    assert not any(dog._is_overdue() for dog in dogs)
    # Patience is for what a rank waits in now, and for nothing after it.
    dogs[0].enter("results", 5, Limit("watchdog.timeout_seconds", -1.0))
    assert [dog._is_overdue() for dog in dogs] == [True, False, False]


@pytest.mark.parametrize("is_lost", [False, True])
def test_nobody_calls_again_while_the_verdict_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_lost: bool
) -> None:
    """Who finds it does not answer meanwhile, and programs of thousands of ranks take minutes; others wait for it."""
    dogs = _world(monkeypatch, tmp_path, {0: 4, 1: 3, 2: 4}, {0: -1.0, 1: -1.0, 2: -1.0})
    monkeypatch.setattr(module, "_GRACE_SECONDS", -0.5)
    overdue: list[bool] = []

    def slow(*arguments: Any) -> Verdict:
        for rank in (1, 2):
            dogs[rank]._look()
            overdue.append(dogs[rank]._is_overdue())
        return find_origin(*arguments)

    monkeypatch.setattr(module, "find_origin", slow)
    threads = [threading.Thread(target=_answer, args=(dogs[rank],)) for rank in (1, 2)]
    for thread in threads:
        thread.start()
    if is_lost:
        dogs[0].lost(RuntimeError("Connection closed by peer"))
    else:
        dogs[0]._suspect()
    for thread in threads:
        thread.join()
    assert overdue == [False, False]
    # What is granted afterwards stands in its place.
    dogs[0]._roll.grant(0, 0.0)
    dogs[1]._look()
    assert dogs[1]._is_overdue()


def test_who_does_not_answer_is_named_and_has_no_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dogs = _world(monkeypatch, tmp_path, {0: 4, 1: 4, 2: 3}, {0: -1.0, 1: -1.0, 2: -1.0})
    failure = _suspect(dogs, 1, (0,))
    assert failure is not None
    assert failure.rank == 2
    assert "rank 2 does not answer" in failure.message
    assert "the stack of every rank but rank 2, which wrote none," in failure.message


def test_a_lost_peer_is_named_and_not_who_lost_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dogs = _world(monkeypatch, tmp_path, {0: 4, 1: 3, 2: 4}, {0: 9.0, 1: 9.0, 2: 9.0})
    thread = threading.Thread(target=_answer, args=(dogs[0],))
    thread.start()
    failure = dogs[2].lost(RuntimeError("Connection closed by peer"))
    thread.join()
    assert failure is not None
    assert (failure.rank, failure.kind, failure.teller) == (1, "LostRankError", 2)
    assert failure.message.startswith(
        "rank 1 is gone and left no report: rank 2 lost its connection in step 5: reading"
    )


def test_a_lost_peer_is_named_though_who_called_before_is_gone_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A call whose caller says nothing ends no search: it is gone itself, or asked before the peer was lost."""
    dogs = _world(monkeypatch, tmp_path, {0: 4, 1: 3, 2: 4}, {0: 9.0, 1: 9.0, 2: 9.0})
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    assert dogs[1]._roll.call() == 0
    assert dogs[0]._roll.answer()
    thread = threading.Thread(target=_answer, args=(dogs[0],))
    thread.start()
    failure = dogs[2].lost(RuntimeError("Connection closed by peer"))
    dogs[0]._stop.set()
    thread.join()
    assert failure is not None
    assert (failure.rank, failure.kind, failure.teller) == (1, "LostRankError", 2)
