"""The watchdog: whom it ends, with which code, and what it leaves behind."""

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch._C._distributed_c10d import HashStore

from counterpoint.errors import HangError
from counterpoint.execute import watchdog as module
from counterpoint.execute.failure import Failure, FailureBoard, Trouble
from counterpoint.execute.watchdog import Watchdog
from counterpoint.execute.whereabouts import Limit

BROKEN = Failure(1, "step 3: reading", "ValueError", "no number", exit_code=7, teller=0)
STUCK = replace(BROKEN, kind=Trouble.HANG, exit_code=HangError.exit_code, waits={"1": "rank 0 (S)"})
SOON = Limit("watchdog.timeout_seconds", 0.02)
RANK = 1

Make = Callable[[FailureBoard], Watchdog]


@pytest.fixture
def codes() -> list[int]:
    """With which codes the process would have ended."""
    return []


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: list[int]) -> Make:
    """Watchdogs that look often, and end nobody but themselves."""

    def watchdog(board: FailureBoard) -> Watchdog:
        dog = Watchdog(RANK, 30.0, tmp_path, board)

        def end(code: int) -> None:
            codes.append(code)
            dog._stop.set()

        monkeypatch.setattr(os, "_exit", end)
        dog.enter("reading", 3)
        return dog

    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    return watchdog


def test_a_rank_that_stands_still_is_ended_with_its_stack(make: Make, codes: list[int], tmp_path: Path) -> None:
    board = FailureBoard(HashStore())
    dog = make(board)
    dog.enter("training", 3, SOON)
    dog.start()
    dog._thread.join(60.0)
    assert codes == [HangError.exit_code]
    written = json.loads((tmp_path / "error.json").read_text())
    assert (written["rank"], written["kind"], written["step"]) == (RANK, "HangError", 3)
    assert board.first() == Failure(**written)
    stacks = (tmp_path / "hang-rank1.txt").read_text()
    assert stacks.startswith("rank 1 stands in step 3: training\n")
    assert "test_a_rank_that_stands_still" in stacks


def test_a_rank_that_goes_on_is_left_alone(make: Make, codes: list[int], tmp_path: Path) -> None:
    class Board(FailureBoard):
        """Says when it has been looked at three times."""

        def first(self) -> Failure | None:
            looks.append(super().first())
            if len(looks) == 3:
                seen.set()
            return looks[-1]

    looks: list[Failure | None] = []
    seen = threading.Event()
    dog = make(Board(HashStore()))
    dog.start()
    assert seen.wait(60.0)
    dog.stop()
    assert codes == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [BROKEN, STUCK])
def test_a_failure_that_another_rank_tells_of_ends_this_one(
    make: Make, codes: list[int], tmp_path: Path, failure: Failure
) -> None:
    """Also one of which this rank is the cause; only who hears of a hang leaves its stack."""
    board = FailureBoard(HashStore())
    dog = make(board)
    board.announce(failure)
    dog._look()
    assert codes == [failure.exit_code]
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if failure is BROKEN else ["hang-rank1.txt"])
    if left:
        assert (
            (tmp_path / left[0]).read_text().startswith("rank 1 stands in step 3: reading and waits for rank 0 (S)\n")
        )


def test_a_rank_that_tells_of_a_failure_leaves_by_itself(make: Make, codes: list[int]) -> None:
    board = FailureBoard(HashStore())
    dog = make(board)
    board.announce(replace(BROKEN, rank=0, teller=RANK))
    dog._look()
    assert codes == []


def test_of_two_that_find_a_hang_only_the_first_reports_it(make: Make, codes: list[int], tmp_path: Path) -> None:
    board = FailureBoard(HashStore())
    dog = make(board)
    board.announce(BROKEN)
    dog._hang(replace(STUCK, teller=RANK))
    assert codes == [BROKEN.exit_code]
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_leaves_in_order_is_not_ended(make: Make, codes: list[int]) -> None:
    dog = make(FailureBoard(HashStore()))
    dog._stop.set()
    dog._leave_after(BROKEN)
    assert codes == []


def test_patience_is_never_shortened_and_ends_with_what_it_was_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    dog = make(FailureBoard(HashStore()))
    dog.enter("reading", 3, SOON)
    now[0] += 1.0
    assert dog._is_overdue()
    dog._be_patient(50.0)
    dog._be_patient(5.0)
    now[0] += 49.0
    assert not dog._is_overdue()
    now[0] += 2.0
    assert dog._is_overdue()
    dog._be_patient(50.0)
    now[0] += 1.0
    dog.enter("reading", 4, SOON)
    now[0] += 1.0
    assert dog._is_overdue()
