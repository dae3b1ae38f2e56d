"""A rank's session: joins the world, watches it, and turns an error into one report."""

import ctypes
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from counterpoint.check.blame import Position
from counterpoint.config.schema import WatchdogConfig
from counterpoint.execute.failure import Failure, FailureBoard, describe, failed_member, is_heard, is_lost_peer, report
from counterpoint.execute.groups import Groups, World, join_world, leave_world
from counterpoint.execute.rank_log import OWN
from counterpoint.execute.watchdog import Watchdog
from counterpoint.execute.whereabouts import Limit
from counterpoint.plan.plan import Plan

_DONE = "counterpoint/done"
_IDLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Session:
    """The objects that live as long as the rank; `limits` are the watchdog's."""

    world: World
    watchdog: Watchdog
    limits: WatchdogConfig

    @property
    def checkpoint_limit(self) -> Limit:
        """How long loading or saving may take."""
        return Limit("watchdog.checkpoint_seconds", self.limits.checkpoint_seconds)

    @property
    def startup_limit(self) -> Limit:
        """How long a first time may take, when kernels are compiled, files opened and connections made."""
        return _startup_limit(self.limits)

    def watch(self, plan: Plan, groups: Groups) -> None:
        """Begin to ask the active ranks for their positions whenever one of them makes no progress."""
        members = {c.name: c.ranks for c in plan.communicators if not c.is_transfer}
        self.watchdog.watch(plan.placement.active, {**members, **groups.host_ranks}, groups.calls, self.world.device)

    def wait_for_others(self) -> None:
        """Wait, as an idle rank, until the working ranks are done."""
        self.watchdog.enter("idle", limit=Limit("", math.inf))
        while not self.world.store.check([_DONE]):
            time.sleep(_IDLE_SECONDS)

    def release_others(self) -> None:
        """Tell idle ranks that the work is done."""
        self.world.store.set(_DONE, "1")


def _startup_limit(limits: WatchdogConfig) -> Limit:
    if limits.timeout_seconds > limits.startup_seconds:
        return Limit("watchdog.timeout_seconds", limits.timeout_seconds)
    return Limit("watchdog.startup_seconds", limits.startup_seconds)


class RankFailedError(SystemExit):
    """Leaves the process after the failure was reported; the code is the failure's exit code."""


def _share_cores() -> None:
    """Give each local rank its share of the cores; more threads than cores only wait for each other."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's numbers of the options of `mallopt`."""

_KEPT_BYTES, _LARGEST_KEPT_BYTES = 2**30, 2**25
"""Bytes of free memory that a process keeps, and of the largest allocation kept (glibc's limit)."""


def _keep_freed_memory() -> None:
    """Let this process keep memory that tensors free: getting each page from the system again costs a tenth of a step.

    Without glibc there is nothing to set.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_TOP_PAD, _LARGEST_KEPT_BYTES)


@contextmanager
def open_session(
    device_type: str, folder: Path, limits: WatchdogConfig, deterministic: bool = False
) -> Iterator[Session]:
    """Join the world and watch it; an error inside is announced, written to `error.json` and ends the process.

    The first failing rank writes the report; ranks that fail because of it leave silently with its exit code.
    """
    # Collectives must outlast the watchdog, which reports a hang better than they do.
    longest = max(limits.timeout_seconds, limits.startup_seconds, limits.checkpoint_seconds)
    if deterministic:
        # cuBLAS reads it when CUDA starts, and torch refuses to be deterministic without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if device_type == "cpu":
        _share_cores()
        _keep_freed_memory()
    watchdog: Watchdog | None = None
    board: FailureBoard | None = None
    rank = int(os.environ["RANK"])
    try:
        world = join_world(device_type, 10 * longest, limits.startup_seconds)
        board = FailureBoard(world.store)
        watchdog = Watchdog(rank, limits.timeout_seconds, folder, board)
        watchdog.enter("start-up", limit=_startup_limit(limits))
        watchdog.start()
        yield Session(world, watchdog, limits)
    except RankFailedError:
        raise
    except BaseException as error:  # DCP's CheckpointException is not an Exception, nor is what sys.exit raises.
        with _undisturbed():
            stands = _report(error, rank, watchdog, board, folder)
        raise RankFailedError(stands.exit_code) from error
    watchdog.stop()
    leave_world(world)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore signals that would end the process: an agent sends one to all ranks as soon as one of them is gone."""
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write_in_log(error: BaseException, rank: int) -> None:
    """Log this rank's error, which need not be what ended the run, with its traceback unless it is a user's error."""
    met = describe(error, rank, Position(""))
    OWN.error("%s: %s", met.kind, met.message, exc_info=error if met.traceback else None)


def _report(
    error: BaseException, rank: int, watchdog: Watchdog | None, board: FailureBoard | None, folder: Path
) -> Failure:
    """Announce and report what ended this rank unless another failure came first; returns the first failure."""
    _write_in_log(error, rank)
    if watchdog is None or board is None:
        failure = describe(error, rank, Position("start-up"))
        report(failure, folder, is_heard())
        return failure
    member = failed_member(error)
    named = watchdog.watched[member] if member is not None and watchdog.watched else rank
    mine = replace(describe(error, named, watchdog.host), teller=rank)
    if is_lost_peer(error):
        # The lost peer is the cause, not the rank that notices it first; without a store no rank can be asked.
        with suppress(Exception):
            mine = watchdog.lost(error) or mine
    stands = board.announce(mine)
    if stands == mine and stands.teller == rank:
        report(stands, folder, is_heard())
    return stands
