"""Channels: one communicator's transfers in FIFO order, on NCCL by its stream and on the CPU by one thread.

A transfer starts only when all that was posted before it on the same communicator is complete, so an order
that would hang on NCCL hangs on the CPU as well, where a test sees it.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
import torch.distributed as dist

from counterpoint.plan.action import Direction
from counterpoint.plan.communicators import transfer_name
from counterpoint.plan.plan import Plan

Peer = tuple[int, torch.Tensor]
"""A global rank and the contiguous tensor that goes to it or comes from it."""


class Pending(Protocol):
    """An exchange that was posted."""

    def wait(self) -> None:
        """Return once its tensors may be used: on the CPU when it is complete, on CUDA in stream order."""

    def is_completed(self) -> bool:
        """Whether it is complete, without waiting."""


class Channel(Protocol):
    """Posts coalesced exchanges on one communicator, one for each round of a link's exchange."""

    def exchange(self, sends: Sequence[Peer], receives: Sequence[Peer]) -> Pending:
        """Post sends and receives as one group; does not block."""

    def close(self) -> None:
        """Release what the channel holds beside its communicator."""


def open_channel(name: str, group: dist.ProcessGroup, device: torch.device) -> Channel:
    """The channel of a communicator for tensors on `device`."""
    return StreamChannel(group) if device.type == "cuda" else ThreadChannel(name, group)


def _operations(group: dist.ProcessGroup, sends: Sequence[Peer], receives: Sequence[Peer]) -> list[dist.P2POp]:
    operations = [dist.P2POp(dist.isend, tensor, peer, group) for peer, tensor in sends]
    return operations + [dist.P2POp(dist.irecv, tensor, peer, group) for peer, tensor in receives]


class StreamChannel:
    """NCCL: the communicator's stream is the FIFO."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group

    def exchange(self, sends: Sequence[Peer], receives: Sequence[Peer]) -> Pending:
        """See Channel."""
        operations = _operations(self._group, sends, receives)
        return StreamPending(dist.batch_isend_irecv(operations) if operations else [], (sends, receives))

    def close(self) -> None:
        """See Channel."""


class StreamPending:
    """Works of one coalesced group; holds the tensors until it is dropped."""

    def __init__(self, works: list[dist.Work], tensors: tuple[Sequence[Peer], Sequence[Peer]]) -> None:
        self._works, self._tensors = works, tensors

    def wait(self) -> None:
        """See Pending."""
        for work in self._works:
            work.wait()

    def is_completed(self) -> bool:
        """See Pending."""
        return all(work.is_completed() for work in self._works)


class ThreadChannel:
    """Gloo: one thread per communicator runs the exchanges one after the other."""

    def __init__(self, name: str, group: dist.ProcessGroup) -> None:
        self._group = group
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"channel {name}")

    def exchange(self, sends: Sequence[Peer], receives: Sequence[Peer]) -> Pending:
        """See Channel."""
        return ThreadPending(self._executor.submit(self._run, tuple(sends), tuple(receives)))

    def close(self) -> None:
        """See Channel."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, sends: tuple[Peer, ...], receives: tuple[Peer, ...]) -> None:
        works = [operation.op(operation.tensor, operation.peer, operation.group)
                 for operation in _operations(self._group, sends, receives)]  # fmt: skip
        for work in works:
            work.wait()


class ThreadPending:
    """The future of an exchange; `wait` raises what the exchange raised."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def wait(self) -> None:
        """See Pending."""
        self._future.result()

    def is_completed(self) -> bool:
        """See Pending."""
        return self._future.done()


def connect(plan: Plan, channels: dict[str, Channel], rank: int, device: torch.device) -> int:
    """Exchange one element with every rank that a link lets this one meet, so that no connection is made inside a step.

    These are the ranks of its neighbourhoods, whatever the size of the world. Links and rounds come in the order of
    the plan on all ranks, so each exchange waits for earlier ones alone. Returns the number of connections.
    """
    pending, connections = [], 0
    for link in plan.stages.links:
        for direction in Direction:
            receivers, senders = plan.peers(link, direction, rank)
            sends = [(peer, torch.zeros(1, device=device)) for peer in receivers]
            receives = [(peer, torch.zeros(1, device=device)) for peer in senders]
            if sends or receives:
                connections += len({*receivers, *senders})
                name = transfer_name(plan.placement, link, direction, rank)
                cut = plan.rounds[link].cut(rank, direction, sends, receives, lambda peer: peer[0])
                pending += [channels[name].exchange(out, back) for _round, out, back in cut]
    for exchange in pending:
        exchange.wait()
    return connections
