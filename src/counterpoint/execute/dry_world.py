"""One rank of a world that is not there: groups that tell nobody anything, and tensors without memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from counterpoint.execute.groups import World

_BACKEND = "fake"
"""Torch's backend for tests of large worlds: every operation is complete at once."""


@contextmanager
def dry_world(rank: int, size: int) -> Iterator[World]:
    """This process as one rank of a world of any size, in which it may make groups and build its part of models."""
    # The import registers the backend and is needed nowhere else.
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group(_BACKEND, store=FakeStore(), rank=rank, world_size=size)
    try:
        yield World(rank, torch.device("cpu"), HashStore(), _BACKEND, torch.device("meta"))
    finally:
        dist.destroy_process_group()
