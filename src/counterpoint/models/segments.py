"""Which rows belong to which document, and the way from packed rows to padded documents and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

_WIDEST_PADDING = 4
"""A padded bucket holds at most this many times the rows of its documents."""

_LONG = 1024
"""Rows from which on a document costs more when padded than by itself."""


@dataclass(frozen=True)
class Bucket:
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

    def to(self, device: torch.device | str) -> "Bucket":
        """The same bucket with its tensors on `device`."""
        return Bucket(
            documents=self.documents,
            longest=self.longest,
            source=self.source.to(device, non_blocking=True),
            slots=self.slots.to(device, non_blocking=True),
            filled=None if self.filled is None else self.filled.to(device, non_blocking=True),
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
class Segments:
    """Documents that lie behind each other in `rows` rows, with gaps where `build` is given starts; what lies between
    and after them belongs to none.

    `document` int64 (rows in documents,) is the number of each row's document, `extents` int64 (documents,) are the
    lengths as a tensor. `own` are the documents of the process's own piece of the rows, where none crosses its borders.
    """

    lengths: tuple[int, ...]
    rows: int
    buckets: tuple[Bucket, ...]
    document: Tensor
    extents: Tensor
    own: "Segments | None" = None

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
        if starts is None:
            starts = list(accumulate(lengths, initial=0))
        grouped = (
            Bucket.build([torch.arange(starts[i], starts[i] + lengths[i]) for i in members]).to(device)
            for members in _similar_lengths(lengths)
        )
        extents = torch.tensor(tuple(lengths), dtype=torch.int64)
        document = torch.arange(len(lengths)).repeat_interleave(extents)
        return cls(tuple(lengths), rows, tuple(grouped), document.to(device), extents.to(device), own)

    def to(self, device: torch.device | str) -> "Segments":
        """The same segments with their index tensors on `device`."""
        return Segments(
            self.lengths,
            self.rows,
            tuple(bucket.to(device) for bucket in self.buckets),
            self.document.to(device, non_blocking=True),
            self.extents.to(device, non_blocking=True),
            None if self.own is None else self.own.to(device),
        )


@dataclass(frozen=True)
class Windows:
    """Groups of rows, anywhere in their documents, that see each other and nothing else; `own` is as in Segments."""

    buckets: tuple[Bucket, ...]
    own: "Windows | None" = None

    @classmethod
    def build(cls, groups: Sequence[Tensor], own: "Windows | None" = None) -> "Windows":
        """Describe groups of rows, int64 (length,) each, on the CPU."""
        members = _similar_lengths([len(rows) for rows in groups])
        return cls(tuple(Bucket.build([groups[i] for i in which]) for which in members), own)

    def to(self, device: torch.device | str) -> "Windows":
        """The same windows with their index tensors on `device`."""
        own = None if self.own is None else self.own.to(device)
        return Windows(tuple(bucket.to(device) for bucket in self.buckets), own)


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
