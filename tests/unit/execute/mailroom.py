"""Channels between ranks of one process: rows lie in boxes until whoever they are for asks for them."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from counterpoint.execute.channel import Channel, Peer
from counterpoint.plan.plan import Plan

Box = tuple[str, int, int, int]
"""A communicator, a sender, a receiver, and how many tensors went that way before."""

Sizes = tuple[tuple[int, int], ...]
"""Peers and the elements that are exchanged with them."""


@dataclass
class Mailroom:
    """What is under way between ranks, of which `players` threads play one each, or one thread all of them.

    Whoever waits for rows that nobody can send any more, because all others wait as well or have left, hears of it.
    `posted` is every group of sends and receives in order: (communicator, rank, sends, receives).
    """

    players: int = 1
    posted: list[tuple[str, int, Sizes, Sizes]] = field(default_factory=list)
    _boxes: dict[Box, torch.Tensor] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _awaited: set[Box] = field(default_factory=set)

    def channels(self, plan: Plan, rank: int) -> dict[str, Channel]:
        """A rank's channels, one for each communicator of its links."""
        return {name: MemoryChannel(self, name, rank) for name in plan.transfers_of(rank)}

    def leave(self) -> None:
        """A player sends nothing any more."""
        with self._changed:
            self.players -= 1
            self._changed.notify_all()

    def put(self, box: Box, rows: torch.Tensor) -> None:
        """Lay rows into a box; their sender may write to its own meanwhile."""
        with self._changed:
            self._boxes[box] = rows.clone()
            self._changed.notify_all()

    def take(self, box: Box) -> torch.Tensor:
        """Wait until rows lie in a box and empty it; raises LookupError if they never will."""
        with self._changed:
            self._awaited.add(box)
            try:
                while box not in self._boxes:
                    if len(self._awaited) >= self.players and not self._awaited & self._boxes.keys():
                        raise LookupError(f"nobody sends {box}")
                    self._changed.wait()
            finally:
                self._awaited.remove(box)
            return self._boxes.pop(box)

    @property
    def is_empty(self) -> bool:
        """Whether all that was sent has arrived."""
        return not self._boxes

    def holds(self, box: Box) -> bool:
        """Whether rows lie in a box."""
        with self._changed:
            return box in self._boxes


class MemoryChannel:
    """A rank's end of a communicator. What it sends is under way at once; what it receives arrives when waited for."""

    def __init__(self, room: Mailroom, name: str, rank: int) -> None:
        self._room, self._name, self._rank = room, name, rank
        self._sent, self._received = Counter[int](), Counter[int]()

    def exchange(self, sends: Sequence[Peer], receives: Sequence[Peer]) -> "MemoryPending":
        """See Channel."""
        self._room.posted.append((self._name, self._rank, _sizes(sends), _sizes(receives)))
        leaving, arriving = [], []
        for peer, rows in sends:
            assert rows.is_contiguous(), "as NCCL demands it"
            leaving.append((self._name, self._rank, peer, self._sent[peer]))
            self._sent[peer] += 1
            self._room.put(leaving[-1], rows)
        for peer, rows in receives:
            arriving.append(((self._name, peer, self._rank, self._received[peer]), rows))
            self._received[peer] += 1
        return MemoryPending(self._room, sends, leaving, arriving)

    def close(self) -> None:
        """See Channel."""


class MemoryPending:
    """An exchange under way, which holds what it sends: complete once that is taken and all that arrives is there."""

    def __init__(
        self, room: Mailroom, sends: Sequence[Peer], leaving: list[Box], arriving: list[tuple[Box, torch.Tensor]]
    ) -> None:
        self._room, self._sends, self._leaving, self._arriving = room, sends, leaving, arriving

    def wait(self) -> None:
        """See Pending."""
        for box, rows in self._arriving:
            sent = self._room.take(box)
            assert sent.shape == rows.shape, f"{box}: {tuple(sent.shape)} were sent, {tuple(rows.shape)} expected"
            rows.copy_(sent)
        self._arriving = []

    def is_completed(self) -> bool:
        """See Pending."""
        arrived = all(self._room.holds(box) for box, _rows in self._arriving)
        return arrived and not any(self._room.holds(box) for box in self._leaving)


def _sizes(peers: Sequence[Peer]) -> Sizes:
    return tuple((peer, rows.numel()) for peer, rows in peers)
