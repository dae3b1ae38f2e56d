"""Which rows belong to which document, and conversion between packed rows and padded documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from counterpoint.models.movable import Movable

_WIDEST_PADDING = 4
"""A padded bucket holds at most this many times the rows of its documents."""

_LONG = 1024
"""Document length from which padding costs more than computing the document separately."""


@dataclass(frozen=True)
class Bucket(Movable):
    """Documents of similar length that attention computes as one padded batch.

    `source` int64 (n,) are their rows, `slots` int64 (n,) the places of those rows in the flattened (documents,
    longest) grid; `filled` bool (documents, longest) is True at these places, or None if the grid is full.
    """

    documents: int
    longest: int
    source: Tensor
    slots: Tensor
    filled: Tensor | None

    @classmethod
    def build(cls, documents: Sequence[Tensor]) -> "Bucket":
        """The bucket, on the CPU, of documents given by their rows, int64 (length,) each."""
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
        """Rows (rows, heads, dim) -> (documents, heads, longest, dim), padded with zeros."""
        grid = rows.new_zeros((self.documents * self.longest, *rows.shape[1:]))
        grid = grid.index_copy(0, self.slots, rows.index_select(0, self.source))
        return grid.view(self.documents, self.longest, *rows.shape[1:]).transpose(1, 2)

    def unpad_into(self, rows: Tensor, padded: Tensor) -> Tensor:
        """Rows (rows, heads, dim) with those of the bucket taken from (documents, heads, longest, dim)."""
        grid = padded.transpose(1, 2).flatten(0, 1)
        return rows.index_copy(0, self.source, grid.index_select(0, self.slots))


@dataclass(frozen=True)
class Segments(Movable):
    """Documents packed in order into `rows` rows; rows between and after them are padding.

    `document` int64 (rows in documents,) is the number of each row's document, `extents` int64 (documents,) are the
    lengths as a tensor. `own` are the documents of the process's own share of the rows, if no document crosses its
    borders. Without gaps, `borders` int32 (documents + 2,) are 0, the ends of the documents, and `rows`. Where others
    of the run `differ` in length, these get no kernel of their own even if they are equal: it would be compiled late.
    """

    lengths: tuple[int, ...]
    rows: int
    buckets: tuple[Bucket, ...]
    document: Tensor
    extents: Tensor
    own: "Segments | None" = None
    borders: Tensor | None = None
    differ: bool = False

    @property
    def even(self) -> int:
        """The length of the documents if all are equally long and fill the rows, else 0; 0 as well if others differ."""
        length = self.lengths[0] if self.lengths else 0
        is_even = self.borders is not None and length * len(self.lengths) == self.rows and not self.differ
        return length if is_even and len(set(self.lengths)) == 1 else 0

    @property
    def longest(self) -> int:
        """The length of the longest document, or of the padding after the last one if that is longer."""
        return max((*self.lengths, self.rows - sum(self.lengths)))

    @classmethod
    def build(
        cls,
        lengths: Sequence[int],
        rows: int,
        device: torch.device | str = "cpu",
        starts: Sequence[int] | None = None,
        own: "Segments | None" = None,
        *,
        differ: bool = False,
    ) -> "Segments":
        """Segments of documents of these lengths, zero allowed, in `rows` rows; `starts` leaves gaps between them, and
        others of the run may `differ`."""
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
        built = cls(tuple(lengths), rows, tuple(grouped), document, extents, own, borders, differ)
        return built.to(device)


@dataclass(frozen=True)
class Windows(Movable):
    """Groups of rows that attend only to each other, anywhere in their documents; `own` is as in Segments."""

    buckets: tuple[Bucket, ...]
    own: "Windows | None" = None

    @classmethod
    def build(cls, groups: Sequence[Tensor], own: "Windows | None" = None) -> "Windows":
        """Windows, on the CPU, of groups given by their rows, int64 (length,) each."""
        members = _similar_lengths([len(rows) for rows in groups])
        return cls(tuple(Bucket.build([groups[i] for i in which]) for which in members), own)


@dataclass(frozen=True)
class Sampled(Movable):
    """Items that a resampler replaces by `queries` learned rows each, among `rows` output rows.

    `buckets` are the input rows of items; `places` has for each bucket the output rows of its items, int64 (items *
    queries,). `own` is as in Segments.
    """

    rows: int = 0
    buckets: tuple[Bucket, ...] = ()
    places: tuple[Tensor, ...] = ()
    own: "Sampled | None" = None

    @classmethod
    def build(
        cls, items: Sequence[Tensor], starts: Sequence[int], queries: int, rows: int, own: "Sampled | None" = None
    ) -> "Sampled":
        """Sampled, on the CPU, of items given by input rows, int64 (length,) each, and first output rows."""
        members = _similar_lengths([len(item) for item in items])
        return cls(
            rows,
            tuple(Bucket.build([items[i] for i in which]) for which in members),
            tuple(torch.cat([torch.arange(queries) + starts[i] for i in which]) for which in members),
            own,
        )


def _similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Groups of documents, longest first, whose padding is limited to _WIDEST_PADDING times their rows.

    Long documents are grouped only if they are equally long, so that they need neither padding nor a mask.
    """
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
