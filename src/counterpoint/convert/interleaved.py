"""The link of queries, keys and values that Megatron keeps in one tensor, group of heads by group."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoint.convert.links import Link, Place, Read


@final
@dataclass(frozen=True)
class Interleaved(Link):
    """Our tensors, of which each of theirs has `rows` rows in turn, over and over: q, k and v of a head, of the next.

    With grouped queries the rows of q are those of several heads.
    """

    ours: tuple[str, ...]
    theirs: tuple[str]
    rows: tuple[int, ...]

    def to_ours(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        (joined,) = tensors
        # With another number of rows the shape stays wrong and is refused later, by name.
        if len(joined) % sum(self.rows):
            return [joined for _name in self.ours]
        groups = joined.reshape(-1, sum(self.rows), *joined.shape[1:])
        return [part.flatten(0, 1) for part in torch.split(groups, list(self.rows), dim=1)]

    def to_theirs(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        groups = [t.reshape(-1, rows, *t.shape[1:]) for t, rows in zip(tensors, self.rows, strict=True)]
        return [torch.cat(groups, dim=1).flatten(0, 1)]

    def piece(self, name: str, place: Place, read: Read) -> Tensor:
        (theirs,), (rows, *others) = self.theirs, place
        pieces = [read(theirs, (one, *others)) for one in self._runs(self.ours.index(name), rows)]
        return torch.cat(pieces) if pieces else read(theirs, (slice(0, 0), *others))

    def their_piece(self, _name: str, place: Place, read: Read) -> Tensor:
        rows, *others = place
        group, pieces, start = sum(self.rows), [], rows.start
        while start < rows.stop:
            number, before = 0, start % group
            while before >= self.rows[number]:
                before, number = before - self.rows[number], number + 1
            stop = min(rows.stop, start - before + self.rows[number])
            first = start // group * self.rows[number] + before
            pieces.append(read(self.ours[number], (slice(first, first + stop - start), *others)))
            start = stop
        return torch.cat(pieces) if pieces else read(self.ours[0], (slice(0, 0), *others))

    def _runs(self, number: int, rows: slice) -> Iterator[slice]:
        """The rows of theirs that hold these rows of one of ours, run by run."""
        own, before, group = self.rows[number], sum(self.rows[:number]), sum(self.rows)
        start = rows.start
        while start < rows.stop:
            stop = min(rows.stop, (start // own + 1) * own)
            first = start // own * group + before + start % own
            yield slice(first, first + stop - start)
            start = stop
