"""Which rows belong to which document, and the way from packed rows to padded documents and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from counterpoint.models.movable import Movable

_WIDEST_PADDING = 4
"""A padded bucket holds at most this many times the rows of its documents."""

_LONG = 1024
"""Rows from which on a document costs more when padded than by itself."""


@dataclass(frozen=True)
class Bucket(Movable):
    """Documents of similar length that attention computes as one padded batch.

    `source` (n,) are their rows, `slots` (n,) the places of those rows in the flattened (documents, longest)
    grid, `filled` (documents, longest) is True at these places, or None where all are filled.
    """

    documents: int
    longest: int
    source: Tensor
    slots: Tensor
    filled: Tensor | None

    @classmethod
    def build(cls, documents: Sequence[Tensor]) -> "Bucket":
        """Index tensors on the CPU for documents whose rows are int64 (length,) each."""
        lengths = [len(rows) for rows in documents]
        length = torch.tensor(lengths)
        within = torch.cat([torch.arange(n) for n in lengths])
        longest = max(lengths)
        grid = torch.arange(len(lengths)) * longest
        even = min(lengths) == longest
        return cls(
            documents=len(lengths),
            longest=longest,
            source=torch.cat(tuple(documents)),
            slots=grid.repeat_interleave(length) + within,
            filled=None if even else torch.arange(longest)[None, :] < length[:, None],
        )

    def pad(self, rows: Tensor) -> Tensor:
        """Lay rows (rows, heads, dim) out as (documents, heads, longest, dim), zeros where nothing lies."""
        grid = rows.new_zeros((self.documents * self.longest, *rows.shape[1:]))
        grid = grid.index_copy(0, self.slots, rows.index_select(0, self.source))
        return grid.view(self.documents, self.longest, *rows.shape[1:]).transpose(1, 2)

    def unpad_into(self, rows: Tensor, padded: Tensor) -> Tensor:
        """Put (documents, heads, longest, dim) back at its places in rows (rows, heads, dim)."""
        grid = padded.transpose(1, 2).flatten(0, 1)
        return rows.index_copy(0, self.source, grid.index_select(0, self.slots))


@dataclass(frozen=True)
class Segments(Movable):
    """Documents packed one after the other in `rows` rows, with gaps where `build` is given starts; what lies between
    and after them belongs to none.

    `document` int64 (rows in documents,) is the number of each row's document, `extents` int64 (documents,) are the
    lengths as a tensor. `own` are the documents of the process's own piece of the rows, where none crosses its borders.
    Without gaps, `borders` int32 (documents + 2,) are the rows where documents begin and end, and the end of the rows.
    """

    lengths: tuple[int, ...]
    rows: int
    buckets: tuple[Bucket, ...]
    document: Tensor
    extents: Tensor
    own: "Segments | None" = None
    borders: Tensor | None = None

    @property
    def even(self) -> int:
        """The length of the documents if all have the same and fill the rows, else 0."""
        length = self.lengths[0] if self.lengths else 0
        is_even = self.borders is not None and length * len(self.lengths) == self.rows
        return length if is_even and len(set(self.lengths)) == 1 else 0

    @property
    def longest(self) -> int:
        """The number of rows of the longest document, or of the gap after the last if that is longer."""
        return max((*self.lengths, self.rows - sum(self.lengths)))

    @classmethod
    def build(
        cls,
        lengths: Sequence[int],
        rows: int,
        device: torch.device | str = "cpu",
        starts: Sequence[int] | None = None,
        own: "Segments | None" = None,
    ) -> "Segments":
        """Describe documents of the given lengths, zero allowed, which fit into `rows` rows."""
        assert sum(lengths) <= rows, f"documents of {sum(lengths)} rows in all do not fit into {rows} rows"
        gapless = list(accumulate(lengths, initial=0))
        starts = gapless[:-1] if starts is None else starts
        has_gaps = any(start != own for start, own in zip(starts, gapless))
        borders = None if has_gaps else torch.tensor([*gapless, rows], dtype=torch.int32)
        grouped = (
            Bucket.build([torch.arange(starts[i], starts[i] + lengths[i]) for i in members])
            for members in _similar_lengths(lengths)
        )
        extents = torch.tensor(tuple(lengths), dtype=torch.int64)
        document = torch.arange(len(lengths)).repeat_interleave(extents)
        built = cls(tuple(lengths), rows, tuple(grouped), document, extents, own, borders)
        return built.to(device)


@dataclass(frozen=True)
class Windows(Movable):
    """Groups of rows, anywhere in their documents, that see each other and nothing else; `own` is as in Segments."""

    buckets: tuple[Bucket, ...]
    own: "Windows | None" = None

    @classmethod
    def build(cls, groups: Sequence[Tensor], own: "Windows | None" = None) -> "Windows":
        """Describe groups of rows, int64 (length,) each, on the CPU."""
        members = _similar_lengths([len(rows) for rows in groups])
        return cls(tuple(Bucket.build([groups[i] for i in which]) for which in members), own)


@dataclass(frozen=True)
class Sampled(Movable):
    """Items of each of which as many learned rows leave, into `rows` rows, whatever its size.

    `buckets` are the items' own rows, and `places` int64 (documents * queries,) say of each bucket into which rows the
    learned ones of its items go. `own` is as in Segments.
    """

    rows: int = 0
    buckets: tuple[Bucket, ...] = ()
    places: tuple[Tensor, ...] = ()
    own: "Sampled | None" = None

    @classmethod
    def build(
        cls, items: Sequence[Tensor], starts: Sequence[int], queries: int, rows: int, own: "Sampled | None" = None
    ) -> "Sampled":
        """Describe items by their own rows, int64 (length,) each, on the CPU, and by the first of those that leave."""
        members = _similar_lengths([len(item) for item in items])
        return cls(
            rows,
            tuple(Bucket.build([items[i] for i in which]) for which in members),
            tuple(torch.cat([torch.arange(queries) + starts[i] for i in which]) for which in members),
            own,
        )


def _similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Group documents, longest first, so that a padded group has at most _WIDEST_PADDING times its rows; long ones are
    grouped only if they are equal, so that nothing is padded and no mask is needed."""
    groups: list[list[int]] = []
    longest = used = 0
    for document in sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i]):
        length = lengths[document]
        is_near = length == longest or longest < _LONG
        if groups and is_near and (len(groups[-1]) + 1) * longest <= _WIDEST_PADDING * (used + length):
            groups[-1].append(document)
            used += length
        else:
            groups.append([document])
            longest = used = length
    return groups
