"""What is said of a world that stands still: who keeps it waiting, who waits for whom, and which limit was passed."""

from pathlib import Path

import pytest

from counterpoint.check.blame import Position, Positions, Verdict, Waits
from counterpoint.errors import HangError
from counterpoint.execute.sentences import hang_failure, lost_failure
from counterpoint.execute.whereabouts import Limit

FOLDER = Path("runs/emoji")
LIMIT = Limit("watchdog.timeout_seconds", 30.0)
STACKS = "every rank's stack is in runs/emoji/hang-rank*.txt"
ONLY = "helps only if it was slow, not stuck"


def at(action: str, seconds: float = 0.0, step: int | None = 3, key: str = LIMIT.key) -> Position:
    return Position("training", step, action=action, seconds=seconds, key=key)


LOADING = Position("resume", None, 2, seconds=61.4, key="watchdog.checkpoint_seconds")


@pytest.mark.parametrize(
    ("kind", "origins", "positions", "waits", "message"),
    [
        (
            "absent", (1,), {0: at("S"), 1: None}, {0: {1: "language.0F2"}},
            "rank 1 does not answer: frozen, or the process or its machine is gone; nothing went on at language.0F2 "
            "for 30 seconds; the stack of every rank but rank 1, which wrote none, is in runs/emoji/hang-rank*.txt; "
            f"a longer watchdog.timeout_seconds {ONLY}",
        ),
        (
            "absent", tuple(range(1, 11)), {0: at("S"), **dict.fromkeys(range(1, 11))}, {0: {}},
            "ranks 1, 2, 3, 4, 5, 6, 7, 8 and 2 more do not answer: frozen, or the process or its machine is gone; "
            "nothing went on for 30 seconds; the stack of every rank but ranks 1, 2, 3, 4, 5, 6, 7, 8 and 2 more, "
            f"which wrote none, is in runs/emoji/hang-rank*.txt; a longer watchdog.timeout_seconds {ONLY}",
        ),
        (
            "skipped", (2,), {0: at("S"), 1: at("S"), 2: at("language.0B1")}, {0: {2: "x"}, 1: {0: "y"}},
            "rank 2 is in step 3: language.0B1, past a collective in which ranks 0 and 1 wait; all ranks must take the "
            f"same way through the model; {STACKS}; a longer watchdog.timeout_seconds {ONLY}",
        ),
        (
            "apart", (0, 1), {0: at("S"), 1: at("S")}, {0: {1: "a"}, 1: {0: "b"}},
            "ranks wait for each other: rank 0 waits for rank 1 (a); rank 1 waits for rank 0 (b); all ranks must take "
            f"the same way through the model; {STACKS}; a longer watchdog.timeout_seconds {ONLY}",
        ),
        (
            "working", (1,), {0: at("S"), 1: LOADING}, {0: {1: "a"}},
            "rank 1 made no progress in resume, batch 2 for 61 seconds; rank 0 waits for it; "
            f"{STACKS}; a longer watchdog.checkpoint_seconds {ONLY}",
        ),
        (
            "working", (2, 0, 1), {0: at("S"), 1: at("S"), 2: at("S", 31.6)}, {},
            "rank 2 made no progress in step 3: S for 32 seconds, nor did ranks 0 and 1, which nobody else keeps "
            f"waiting; {STACKS}; a longer watchdog.timeout_seconds {ONLY}",
        ),
    ],
    ids=["absent", "many absent", "skipped", "apart", "working", "beside"],
)  # fmt: skip
def test_a_hang_is_told_in_one_sentence(
    kind: str, origins: tuple[int, ...], positions: Positions, waits: Waits, message: str
) -> None:
    failure = hang_failure(0, LIMIT, positions, Verdict(origins, kind, waits), FOLDER)
    assert failure.message == message
    found = (failure.rank, failure.kind, failure.exit_code, failure.teller)
    assert found == (origins[0], "HangError", HangError.exit_code, 0)
    for rank, awaited in waits.items():
        assert failure.waits.get(str(rank), "") == ", ".join(
            f"rank {other} ({what})" for other, what in awaited.items()
        )


def test_a_step_is_that_of_the_origin_or_of_any_rank_that_answers() -> None:
    positions: Positions = {0: at("S", step=4), 1: at("language.0F1", step=3), 2: None, 3: LOADING}
    told = [hang_failure(0, LIMIT, positions, Verdict((rank,), "working", {}), FOLDER) for rank in range(4)]
    assert [failure.step for failure in told] == [4, 3, 4, None]
    assert [failure.batch for failure in told] == [None, None, None, 2]
    assert [failure.action for failure in told] == ["step 4: S", "step 3: language.0F1", "unknown", "resume, batch 2"]


def test_a_rank_that_is_gone_is_told_by_who_lost_it() -> None:
    positions: Positions = {0: at("language.0F1"), 1: None, 2: None}
    error = RuntimeError("Connection closed by peer\nand much more")
    waits: Waits = {3: {0: "S"}, 0: {2: "other", 1: "vision.0>language.0F1"}}
    failure = lost_failure(0, error, positions, Verdict((1, 2), "absent", waits))
    assert failure.message == (
        "ranks 1 and 2 are gone and left no report: rank 0 lost its connection in step 3: language.0F1 (Connection "
        "closed by peer); what ended it is above, or in its machine's log"
    )
    found = (failure.rank, failure.teller, failure.action, failure.kind, failure.step, failure.exit_code)
    assert found == (1, 0, "vision.0>language.0F1", "LostRankError", 3, 1)
    assert failure.waits == {"0": "rank 1 (vision.0>language.0F1), rank 2 (other)", "3": "rank 0 (S)"}
