"""The rows of items in a lane: where each lies, what of them one process reads, and which see each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar, final

from counterpoint.kinds.modality import Payload
from counterpoint.models.segments import Segments

P = TypeVar("P", bound=Payload)


class Laid(NamedTuple):
    """An item in a lane: its first row, its rows, and the `columns` of the grid in which they leave, if it has one."""

    row: int
    rows: int
    columns: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Own(Generic[P]):
    """An item of which a process holds rows: `here` among its own are `there` of the item."""

    payload: P
    here: slice
    there: slice


@final
@dataclass(frozen=True, slots=True)
class Lane(Generic[P]):
    """`rows` rows in which items lie.

    A process has the rows `shard`, in which its `own` items lie; these are read as they are iterated, once. The shard
    is of `piece`, one of the `pieces` equal ones that context parallelism cuts the lane into.
    """

    rows: int
    items: Sequence[Laid]
    own: Iterable[Own[P]]
    shard: slice
    piece: slice
    pieces: int = 1

    @classmethod
    def whole(cls, payloads: Sequence[P], items: Sequence[Laid]) -> "Lane[P]":
        """A lane of one process that ends with its last item."""
        rows = items[-1].row + items[-1].rows if items else 0
        own = [Own(one, slice(at.row, at.row + at.rows), slice(0, at.rows)) for one, at in zip(payloads, items)]
        return cls(rows, items, own, slice(0, rows), slice(0, rows))

    @property
    def own_rows(self) -> int:
        """The rows that the process has."""
        rows: int = self.shard.stop - self.shard.start
        return rows

    def segments(self, prefix: int = 0) -> Segments:
        """Each item, with `prefix` rows before it, seen by itself."""
        inside = self.inside(prefix)
        own = None if inside is None else _segments(inside, self.rows // self.pieces, prefix)
        return _segments(self.items, self.rows, prefix, own)

    def inside(self, prefix: int = 0) -> list[Laid] | None:
        """The items of the piece, counted from it, if there are several pieces and each item lies whole in one."""
        rows = self.rows // self.pieces
        ends = ((item.row - prefix, item.row + item.rows - 1) for item in self.items)
        if self.pieces == 1 or not all(first // rows == last // rows for first, last in ends):
            return None
        start, stop = self.piece.start, self.piece.stop
        return [item._replace(row=item.row - start) for item in self.items if start <= item.row < stop]


def _segments(items: Sequence[Laid], rows: int, prefix: int, own: Segments | None = None) -> Segments:
    starts = [item.row - prefix for item in items]
    return Segments.build([prefix + item.rows for item in items], rows, starts=starts, own=own)
