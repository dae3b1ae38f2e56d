"""A rank's session: joins the world, watches it, and turns whatever ends it into one report."""

import ctypes
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from counterpoint.config.schema import WatchdogConfig
from counterpoint.execute.failure import FailureBoard, describe, is_lost_peer, report
from counterpoint.execute.groups import World, join_world, leave_world
from counterpoint.execute.watchdog import Limit, Watchdog
from counterpoint.launch import RUN_ID_PREFIX

_DONE = "counterpoint/done"
_IDLE_SECONDS = 0.5
_PEER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Session:
    """What lives as long as the rank does; `limits` are the watchdog's."""

    world: World
    watchdog: Watchdog
    board: FailureBoard
    limits: WatchdogConfig

    @property
    def checkpoint_limit(self) -> Limit:
        """How long loading or saving may take."""
        return Limit("watchdog.checkpoint_seconds", self.limits.checkpoint_seconds)

    def wait_for_others(self) -> None:
        """Wait, as an idle rank, until the working ranks are done."""
        self.watchdog.enter("idle", Limit("", math.inf))
        while not self.world.store.check([_DONE]):
            time.sleep(_IDLE_SECONDS)

    def release_others(self) -> None:
        """Tell idle ranks that the work is done."""
        self.world.store.set(_DONE, "1")


class RankFailedError(SystemExit):
    """Leaves the process after the failure was reported; the code is the failure's exit code."""


def _share_cores() -> None:
    """Give each local rank its share of the cores; more threads than cores only wait for each other."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // ranks))


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""glibc's numbers of what `mallopt` sets."""

_KEPT_BYTES, _LARGEST_KEPT_BYTES = 2**30, 2**25
"""How much free memory a process keeps; in pieces of at most the other, glibc's limit."""


def _keep_freed_memory() -> None:
    """Let this process keep what tensors give back: to get each page anew from the system costs a tenth of a step.

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
    world = join_world(device_type, 10 * longest, limits.startup_seconds)
    board = FailureBoard(world.store)
    watchdog = Watchdog(world.rank, limits.timeout_seconds, folder, board)
    watchdog.enter("start-up", Limit("watchdog.startup_seconds", limits.startup_seconds))
    watchdog.start()
    try:
        yield Session(world, watchdog, board, limits)
    except SystemExit:
        raise
    except BaseException as error:  # DCP's CheckpointException is not an Exception.
        if is_lost_peer(error):
            # The peer that is gone knows why, or the launcher does; this rank speaks only if neither does.
            time.sleep(_PEER_SECONDS)
        failure = board.announce(describe(error, world.rank, watchdog.action))
        if failure.rank == world.rank:
            # Our own launcher says it last; torchrun and Slurm would not say it at all.
            is_ours = os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(RUN_ID_PREFIX)
            report(failure, folder, is_heard=is_ours)
        raise RankFailedError(failure.exit_code) from error
    watchdog.stop()
    leave_world(world)
