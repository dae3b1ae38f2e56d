"""The bridge: moves rows from owner to owner along a link, and their gradients back along the same rows."""

from dataclasses import dataclass

import torch

from counterpoint.execute.channel import Channel, Peer, Pending
from counterpoint.execute.rowmap import RowMap
from counterpoint.execute.waits import WaitClock
from counterpoint.plan.action import Direction, Transfer
from counterpoint.plan.communicators import transfer_name
from counterpoint.plan.graph import Link
from counterpoint.plan.plan import Plan

MapKey = tuple[Link, int]
"""A link and the number of an exchange."""


@dataclass(slots=True)
class _Exchange:
    pending: tuple[Pending, ...]
    received: torch.Tensor | None


class Bridge:
    """One rank's transfers. Rows are 2-D `(rows, columns of the link)` in the dtype of the plan."""

    def __init__(
        self, rank: int, plan: Plan, channels: dict[str, Channel], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._rank, self._plan, self._channels = rank, plan, channels
        self._device, self._dtype = device, dtype
        self._maps: dict[MapKey, RowMap] = {}
        self._open: dict[Transfer, _Exchange] = {}
        self.sent_bytes = 0
        self.waits = WaitClock()

    def begin(self, maps: dict[MapKey, RowMap]) -> None:
        """Take the row maps of a step, one for each exchange with rows on any rank."""
        assert not self._open, "a step ends with all of its transfers complete"
        self._maps = maps

    def post(self, transfer: Transfer, rows: torch.Tensor | None) -> None:
        """Post this rank's part; `rows` are the local rows that it sends, None where it only receives.

        Forward they are the source stage's output shard, backward the gradients of what arrived forward.
        """
        self._reap()
        rows_of = self._maps[transfer.link, transfer.exchange]
        forward = transfer.direction is Direction.FORWARD
        send_counts = rows_of.send_counts if forward else rows_of.receive_counts
        receive_counts = rows_of.receive_counts if forward else rows_of.send_counts
        outgoing = None
        if rows is not None:
            outgoing = rows.index_select(0, rows_of.send_index) if forward and not transfer.link.is_hop else rows
        receiver = transfer.link.target if forward else transfer.link.source
        receives_here = self._rank in self._plan.stages.ranks[receiver]
        received = self._buffer(transfer.link, receive_counts) if receives_here else None
        sends, kept = self._cut(outgoing, send_counts)
        receives, place = self._cut(received, receive_counts)
        if kept is not None and place is not None:
            place.copy_(kept)
        name = transfer_name(self._plan.placement, transfer.link, transfer.direction, self._rank)
        self.sent_bytes += sum(tensor.numel() * tensor.element_size() for _peer, tensor in sends)
        rounds, channel = self._plan.rounds[transfer.link], self._channels[name]
        cut = rounds.cut(self._rank, transfer.direction, sends, receives, lambda peer: peer[0])
        self._open[transfer] = _Exchange(tuple(channel.exchange(out, back) for _round, out, back in cut), received)

    def collect(self, transfer: Transfer) -> torch.Tensor:
        """Wait for an exchange and return the rows that arrived, in the order of the row map."""
        exchange = self._open.pop(transfer)
        with self.waits:
            _wait(exchange)
        assert exchange.received is not None, "a stage collects only what it receives"
        return exchange.received

    def placed(self, transfer: Transfer, rows: int) -> torch.Tensor:
        """Collect gradients (rows, columns), each at the local row that was sent; rows that had no route are zero."""
        arrived = self.collect(transfer)
        if transfer.link.is_hop:
            return arrived
        index = self._maps[transfer.link, transfer.exchange].send_index
        return arrived.new_zeros(rows, arrived.shape[1]).index_copy_(0, index, arrived)

    def index(self, link: Link, exchange: int) -> torch.Tensor:
        """The local rows, int64 (n,), to which the rows that arrive on a link belong."""
        return self._maps[link, exchange].receive_index

    def finish(self) -> None:
        """Wait for everything that is still open: sends whose tensors may now be reused."""
        with self.waits:
            for exchange in self._open.values():
                _wait(exchange)
        self._open.clear()

    def _reap(self) -> None:
        """Drop sends that are complete, so that their tensors are freed before the step ends."""
        done = [key for key, e in self._open.items() if e.received is None and all(p.is_completed() for p in e.pending)]
        for key in done:
            _wait(self._open.pop(key))

    def _buffer(self, link: Link, counts: tuple[tuple[int, int], ...]) -> torch.Tensor:
        rows = sum(count for _peer, count in counts)
        return torch.empty(rows, self._plan.width(link), dtype=self._dtype, device=self._device)

    def _cut(
        self, rows: torch.Tensor | None, counts: tuple[tuple[int, int], ...]
    ) -> tuple[list[Peer], torch.Tensor | None]:
        """Consecutive rows per peer, this rank's own share apart."""
        peers: list[Peer] = []
        own = None
        if rows is None:
            return peers, own
        first = 0
        for peer, count in counts:
            piece = rows[first : first + count]
            first += count
            if peer == self._rank:
                own = piece
            else:
                peers.append((peer, piece.contiguous()))
        return peers, own


def _wait(exchange: _Exchange) -> None:
    for pending in exchange.pending:
        pending.wait()
