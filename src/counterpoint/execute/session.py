"""A rank's session: joins the world, watches it, and turns whatever ends it into one report."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from counterpoint.execute.failure import FailureBoard, describe, write_report
from counterpoint.execute.groups import World, join_world, leave_world
from counterpoint.execute.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class Session:
    """What lives as long as the rank does."""

    world: World
    watchdog: Watchdog
    board: FailureBoard


class RankFailedError(SystemExit):
    """Leaves the process after the failure was reported; the code is the failure's exit code."""


@contextmanager
def open_session(device_type: str, folder: Path, timeout_seconds: float, startup_seconds: float) -> Iterator[Session]:
    """Join the world and watch it; an error inside is announced, written to `error.json` and ends the process.

    The first failing rank writes the report; ranks that fail because of it leave silently with its exit code.
    """
    # Collectives must outlast the watchdog, which reports a hang better than they do.
    world = join_world(device_type, 10 * max(timeout_seconds, startup_seconds))
    board = FailureBoard(world.store)
    watchdog = Watchdog(world.rank, timeout_seconds, folder, board)
    watchdog.enter("start-up", startup_seconds)
    watchdog.start()
    try:
        yield Session(world, watchdog, board)
    except Exception as error:
        failure = board.announce(describe(error, world.rank, watchdog.action))
        if failure.rank == world.rank:
            write_report(failure, folder)
        raise RankFailedError(failure.exit_code) from error
    watchdog.stop()
    leave_world(world)

