"""Worlds of which only this process is there, and groups whose operations are complete when the test says so."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.testing._internal.distributed.fake_pg import FakeStore

from counterpoint.execute.groups import World

PATIENCE_SECONDS = 10.0


class HeldWork(dist.Work):
    """An operation under way, and the thread that began it."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.thread = words, threading.current_thread().name
        self._error: Exception | None = None
        self._done, self._awaited = threading.Event(), threading.Event()

    def finish(self, error: Exception | None = None) -> None:
        """Complete it, or let it fail."""
        self._error = error
        self._done.set()

    def until_awaited(self) -> None:
        """Return once somebody waits for it."""
        assert self._awaited.wait(PATIENCE_SECONDS), f"nobody waits for {self.words}"

    def wait(self, timeout: Any = None) -> bool:
        """See dist.Work."""
        self._awaited.set()
        assert self._done.wait(PATIENCE_SECONDS), f"{self.words} is never complete"
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """See dist.Work."""
        return self._done.is_set()


class HeldGroup(dist.ProcessGroup):
    """Notes all that begins, in order."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(rank, size)  # type: ignore[call-arg]
        self.begun: list[HeldWork] = []
        self._changed = threading.Condition()

    def send(self, tensors: list[torch.Tensor], peer: int, tag: int) -> dist.Work:
        """See dist.ProcessGroup."""
        return self._begin(f"to {peer}")

    def recv(self, tensors: list[torch.Tensor], peer: int, tag: int) -> dist.Work:
        """See dist.ProcessGroup."""
        return self._begin(f"from {peer}")

    def until(self, count: int) -> list[HeldWork]:
        """What has begun, once it is so much."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, PATIENCE_SECONDS), "nothing more begins"
            return list(self.begun)

    @property
    def words(self) -> list[str]:
        """What has begun, in words."""
        return [work.words for work in self.begun]

    def _begin(self, words: str) -> dist.Work:
        with self._changed:
            self.begun.append(HeldWork(words))
            self._changed.notify_all()
            return self.begun[-1]


@contextmanager
def fake_world(rank: int, size: int) -> Iterator[World]:
    """This process as one rank of a world of torch's fake backend, in which nothing arrives."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=size)
    try:
        device = torch.device("cpu")
        yield World(rank, device, HashStore(), "fake", device)
    finally:
        dist.destroy_process_group()


def join_as(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, port: int) -> None:
    """What a launcher leaves in the environment; with port 0 rank 0 takes any."""
    for key, value in {"RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(key, str(value))


@contextmanager
def held_groups(rank: int, size: int, count: int) -> Iterator[list[HeldGroup]]:
    """Groups over all ranks of a world in which this process is one."""
    made: list[HeldGroup] = []

    def make(place: Any, _options: object) -> HeldGroup:
        made.append(HeldGroup(place.group_rank, place.group_size))
        return made[-1]

    dist.Backend.register_backend("held", make, extended_api=True, devices=["cpu"])
    with fake_world(rank, size):
        for _number in range(count):
            dist.new_group(list(range(size)), backend="held")
        yield made
