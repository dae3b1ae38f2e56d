"""This rank's side of a route: which of its rows go to which rank, and where the rows that arrive belong."""

from dataclasses import dataclass, replace

import torch

from counterpoint.plan.route import Copy, Route


@dataclass(frozen=True, slots=True)
class RowMap:
    """One rank's part of a route; backward it is used the other way round.

    Rows leave in the order of `send_index` (int64 local rows, sorted by target) cut by `send_counts` (peer, rows);
    they arrive cut by `receive_counts` and belong to the local rows `receive_index`. Pairs agree on the order of
    their rows, because both ends list a route's copies in its one sorted order.
    """

    send_index: torch.Tensor
    send_counts: tuple[tuple[int, int], ...]
    receive_index: torch.Tensor
    receive_counts: tuple[tuple[int, int], ...]

    @classmethod
    def build(cls, route: Route, rank: int) -> "RowMap":
        """The part of `rank`; index tensors are on the CPU."""
        outgoing, incoming = route.outgoing(rank), route.incoming(rank)
        return cls(
            _rows([(copy.source_row, copy.rows) for copy in outgoing]),
            _counts(outgoing, [copy.target_rank for copy in outgoing]),
            _rows([(copy.target_row, copy.rows) for copy in incoming]),
            _counts(incoming, [copy.source_rank for copy in incoming]),
        )

    def to(self, device: torch.device) -> "RowMap":
        """The same map with its index tensors on a device."""
        return RowMap(
            self.send_index.to(device, non_blocking=True),
            self.send_counts,
            self.receive_index.to(device, non_blocking=True),
            self.receive_counts,
        )

    def pinned(self) -> "RowMap":
        """The same map in memory from which a GPU copies by itself."""
        return replace(self, send_index=self.send_index.pin_memory(), receive_index=self.receive_index.pin_memory())


def _rows(intervals: list[tuple[int, int]]) -> torch.Tensor:
    pieces = [torch.arange(first, first + rows) for first, rows in intervals]
    return torch.cat(pieces) if pieces else torch.empty(0, dtype=torch.int64)


def _counts(copies: tuple[Copy, ...], peers: list[int]) -> tuple[tuple[int, int], ...]:
    counts: dict[int, int] = {}
    for copy, peer in zip(copies, peers, strict=True):
        counts[peer] = counts.get(peer, 0) + copy.rows
    return tuple(sorted(counts.items()))
