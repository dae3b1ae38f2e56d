"""The rows of items in a lane: the place of each item, which rows one process reads, and which see each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar, final

import torch

from counterpoint.kinds.modality import Payload
from counterpoint.models.segments import Sampled, Segments

P = TypeVar("P", bound=Payload)


class Laid(NamedTuple):
    """An item in a lane: its first row, its number of rows, the `columns` of the grid in which they leave, if it has
    one, and the first of the learned rows that leave in their place, if any."""

    row: int
    rows: int
    columns: int | None = None
    row_out: int = 0


@final
@dataclass(frozen=True, slots=True)
class Own(Generic[P]):
    """An item with rows in a process: rows `here` of the process are rows `there` of the item."""

    payload: P
    here: slice
    there: slice


@final
@dataclass(frozen=True, slots=True)
class Lane(Generic[P]):
    """A lane of `rows` rows with some items.

    A process has the rows `shard`, with its `own` items, which are read while they are iterated, once. The shard is
    part of `piece`, one of the `pieces` equal ones into which context parallelism cuts the lane. Learned rows leave
    into `rows_out` rows.
    """

    rows: int
    items: Sequence[Laid]
    own: Iterable[Own[P]]
    shard: slice
    piece: slice
    pieces: int = 1
    rows_out: int = 0

    @classmethod
    def whole(cls, payloads: Sequence[P], items: Sequence[Laid], rows_out: int = 0) -> "Lane[P]":
        """A lane of one process that ends with its last item."""
        rows = items[-1].row + items[-1].rows if items else 0
        own = [Own(one, slice(at.row, at.row + at.rows), slice(0, at.rows)) for one, at in zip(payloads, items)]
        return cls(rows, items, own, slice(0, rows), slice(0, rows), rows_out=rows_out)

    @property
    def own_rows(self) -> int:
        """The rows that the process has."""
        rows: int = self.shard.stop - self.shard.start
        return rows

    def segments(self, prefix: int = 0) -> Segments:
        """Segments of one item each, with the `prefix` rows before it."""
        inside = self.inside(prefix)
        own = None if inside is None else _segments(inside, self.rows // self.pieces, prefix)
        return _segments(self.items, self.rows, prefix, own)

    def inside(self, prefix: int = 0) -> list[Laid] | None:
        """The items of the piece, with rows counted from its first, if there are several pieces and no item crosses a
        border."""
        rows = self.rows // self.pieces
        ends = ((item.row - prefix, item.row + item.rows - 1) for item in self.items)
        if self.pieces == 1 or not all(first // rows == last // rows for first, last in ends):
            return None
        start, stop = self.piece.start, self.piece.stop
        return [item._replace(row=item.row - start) for item in self.items if start <= item.row < stop]

    def sampled(self, group: int, queries: int) -> Sampled:
        """The items, after merging of `group` rows into one, and the `queries` learned rows that leave for each."""
        if not queries:
            return Sampled()
        items = [Laid(item.row // group, item.rows // group, row_out=item.row_out) for item in self.items]
        size, left = self.rows // group // self.pieces, self.rows_out // self.pieces
        homes = [_pieces(item.row, item.rows, size) | _pieces(item.row_out, queries, left) for item in items]
        own = None
        if self.pieces > 1 and all(len(home) == 1 for home in homes):
            number = self.piece.start // group // max(size, 1)
            inside = [item for item, home in zip(items, homes, strict=True) if home == {number}]
            shifted = [Laid(at.row - number * size, at.rows, row_out=at.row_out - number * left) for at in inside]
            own = _sampled(shifted, queries, left)
        return _sampled(items, queries, self.rows_out, own)


def _pieces(first: int, rows: int, size: int) -> set[int]:
    """The pieces, of equal numbers of rows, that contain rows from the `first`."""
    return set(range(first // size, (first + rows - 1) // size + 1))


def _sampled(items: Sequence[Laid], queries: int, rows: int, own: Sampled | None = None) -> Sampled:
    own_rows = [torch.arange(item.row, item.row + item.rows) for item in items]
    return Sampled.build(own_rows, [item.row_out for item in items], queries, rows, own)


def _segments(items: Sequence[Laid], rows: int, prefix: int, own: Segments | None = None) -> Segments:
    starts = [item.row - prefix for item in items]
    return Segments.build([prefix + item.rows for item in items], rows, starts=starts, own=own)
