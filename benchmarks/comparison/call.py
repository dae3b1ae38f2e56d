"""One call of a benchmark by torchrun: its ranks join, measure, print and end."""

import argparse
import contextlib
import faulthandler
import os
import sys
from collections.abc import Callable
from typing import NoReturn, Protocol

import torch.distributed as dist

from counterpoint.errors import ConfigError
from counterpoint.execute.groups import World, join_world

from .settings import SettingError
from .stick import TINY, sync

WRONG_CALL = 2


class Measured(Protocol):
    """What a call measures on one rank."""

    def run(self) -> None:
        """Measure everything; what is known is written on the way."""

    def table(self) -> str:
        """The rows as text."""


Open = Callable[[argparse.Namespace, World, dist.ProcessGroup], Measured]
"""Makes what is measured of the options, the world, and a group of all ranks on the host."""


def refuse(words: str) -> NoReturn:
    """Leave with a sentence for the wrong call."""
    sys.stderr.write(f"error: {words}\n")
    sys.exit(WRONG_CALL)


def need_torchrun() -> None:
    """Leave with a sentence unless torchrun has started this process."""
    if "RANK" not in os.environ:
        refuse("RANK: got nothing in the environment, expected what torchrun sets; start it with torchrun")


def measure(options: argparse.Namespace, opened: Open) -> NoReturn:
    """Join, measure, print the table, and end the process; after `options.limit` seconds say where all ranks are."""
    faulthandler.dump_traceback_later(options.limit, exit=True)
    world = join_world("cpu" if TINY else "cuda", timeout_seconds=10 * options.limit, startup_seconds=600.0)
    control = dist.new_group(backend="gloo")
    try:
        comparison = opened(options, world, control)
    except (SettingError, ConfigError) as error:
        # One of them says it; the others leave alike.
        if world.rank == 0:
            refuse(str(error))
        sys.exit(WRONG_CALL)
    comparison.run()
    if world.rank == 0:
        print(comparison.table(), flush=True)
    sync()
    dist.barrier(control)
    # Taking down overlapping groups over NCCL can hang; everything is written, and the processes end anyway.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
