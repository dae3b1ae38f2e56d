"""Reports of a stalled world or of a lost rank: failures made of positions and a verdict."""

from pathlib import Path

from counterpoint.check.blame import Positions, Verdict
from counterpoint.errors import HangError
from counterpoint.execute.failure import Failure, Trouble
from counterpoint.execute.whereabouts import Limit


def hang_failure(teller: int, limit: Limit, positions: Positions, verdict: Verdict, folder: Path) -> Failure:
    """The report of a hang: the rank that is the origin, its position, and the ranks that wait for it."""
    origin = verdict.origins[0]
    position = positions[origin]
    where = _seen(origin, verdict) if position is None else str(position)
    absent = tuple(rank for rank, one in positions.items() if one is None)
    match verdict.kind:
        case "absent":
            what = (
                f"{_ranks(verdict.origins)} {_do(verdict.origins, 'does', 'do')} not answer: frozen, or the process or "
                f"its machine is gone; nothing went on{_in(where)} for {limit.seconds:g} seconds"
            )
        case "skipped":
            what = (
                f"rank {origin} is in {where}, past a collective in which {_waiting(origin, verdict)}; all ranks must "
                "take the same way through the model"
            )
        case "apart":
            words = _words(verdict)
            pairs = "; ".join(f"rank {rank} waits for {words[str(rank)]}" for rank in verdict.origins[:4])
            what = f"ranks wait for each other: {pairs}; all ranks must take the same way through the model"
        case _:
            seconds = limit.seconds if position is None else position.seconds
            what = f"rank {origin} made no progress in {where} for {seconds:.0f} seconds"
            if len(verdict.origins) > 1:
                what = f"{what}, nor did {_ranks(verdict.origins[1:])}, which nobody else keeps waiting"
            if verdict.waiting(origin):
                what = f"{what}; {_waiting(origin, verdict)} for it"
    key = limit.key if position is None else position.key
    stacks = "every rank's stack" if not absent else f"the stack of every rank but {_ranks(absent)}, which wrote none,"
    message = f"{what}; {stacks} is in {folder}/hang-rank*.txt; a longer {key} helps only if it was slow, not stuck"
    return Failure(
        origin, where or "unknown", Trouble.HANG, message, HangError.exit_code,
        step=_step(positions, origin), batch=_batch(positions, origin), teller=teller, waits=_words(verdict),
    )  # fmt: skip


def lost_failure(teller: int, error: BaseException, positions: Positions, verdict: Verdict) -> Failure:
    """The report of lost ranks by a rank that lost its connection to one of them."""
    origin = verdict.origins[0]
    mine = positions[teller]
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    gone = f"{_ranks(verdict.origins)} {_do(verdict.origins, 'is', 'are')} gone and left no report"
    message = (
        f"{gone}: rank {teller} lost its connection in {mine} ({reason[:160]}); what ended it is above, or in its "
        "machine's log"
    )
    where = _seen(origin, verdict) or str(mine)
    return Failure(
        origin, where, Trouble.LOST, message, 1, step=_step(positions, teller), batch=_batch(positions, teller),
        teller=teller, waits=_words(verdict),
    )  # fmt: skip


def _words(verdict: Verdict) -> dict[str, str]:
    """Which ranks each rank waits for: `rank 1 (vision.0>language.0F1)`."""
    return {
        str(rank): ", ".join(f"rank {other} ({what})" for other, what in sorted(awaited.items()))
        for rank, awaited in verdict.waits.items()
        if awaited
    }


def _seen(rank: int, verdict: Verdict) -> str:
    """What others wait for a rank to do: all that is known of a rank that does not answer."""
    return next((awaited[rank] for awaited in verdict.waits.values() if rank in awaited), "")


def _waiting(origin: int, verdict: Verdict) -> str:
    waiting = verdict.waiting(origin)
    return f"{_ranks(waiting)} {_do(waiting, 'waits', 'wait')}"


def _in(where: str) -> str:
    return f" at {where}" if where else ""


def _ranks(ranks: tuple[int, ...]) -> str:
    words = [str(rank) for rank in ranks[:8]]
    if len(ranks) > len(words):
        return f"ranks {', '.join(words)} and {len(ranks) - len(words)} more"
    return f"rank {words[0]}" if len(words) == 1 else f"ranks {', '.join(words[:-1])} and {words[-1]}"


def _do(ranks: tuple[int, ...], one: str, many: str) -> str:
    return one if len(ranks) == 1 else many


def _step(positions: Positions, rank: int) -> int | None:
    """The step that a rank is in, else that of any rank that answers."""
    known = [positions[rank], *positions.values()]
    return next((position.step for position in known if position is not None), None)


def _batch(positions: Positions, rank: int) -> int | None:
    known = [positions[rank], *positions.values()]
    return next((position.batch for position in known if position is not None), None)
