"""The items of a whole index as arrays: the rows that they need in each document are computed in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc  # type: ignore[import-untyped]

from counterpoint.kinds.arrays import Bools, Ints
from counterpoint.kinds.modality import SIZES, Intake, extent_of
from counterpoint.modalities import MODALITIES
from counterpoint.sources.prepared.index import WHOLE, WITHOUT_STORES, Index


@dataclass(frozen=True)
class ItemTable:
    """All items of an index of `documents` documents, in order.

    `owners` int64 (items,) are their documents, `positions` int64 (items,) the tokens that they precede, `kinds` a bool
    (items,) per kind, `sizes` int64 (items, columns) their sizes, the number of pictures of the whole video, and the
    number of files last.
    """

    documents: int
    owners: Ints
    positions: Ints
    kinds: Mapping[str, Bools]
    sizes: Ints

    @classmethod
    def of(cls, index: Index) -> "ItemTable":
        """The items of an index."""
        counts = list_lengths(index, "items")
        fields = [chunk.flatten() for chunk in index.table.column("items").chunks]

        def column(name: str) -> Ints:
            parts = [chunk.field(name).to_numpy(zero_copy_only=False) for chunk in fields]
            return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

        def are(kind: str) -> Bools:
            parts = [pc.equal(chunk.field("kind"), kind).to_numpy(zero_copy_only=False) for chunk in fields]
            return np.concatenate([np.zeros(0, np.bool_), *parts]).astype(np.bool_)

        def files_in(name: str) -> Ints:
            parts = [pc.list_value_length(chunk.field(name)).to_numpy(zero_copy_only=False) for chunk in fields]
            return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)

        files = wholes = files_in("lengths")
        if index.manifest.version > WITHOUT_STORES:
            picks = files_in("picks")
            files = np.where(picks > 0, picks, files)
            wholes = np.where(picks > 0, column(WHOLE), files)
        sizes = np.stack([*(column(name) for name in SIZES), wholes, files], axis=1)
        owners = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return cls(len(counts), owners, column("position"), {kind: are(kind) for kind in MODALITIES}, sizes)

    def samples_with(self, rows: Ints) -> dict[str, int]:
        """Number of the documents `rows` that contain an item of each kind; kinds without any are left out."""
        counts = {kind: int(np.isin(rows, self.owners[are_kind]).sum()) for kind, are_kind in self.kinds.items()}
        return {kind: count for kind, count in counts.items() if count}

    def videos_in(self, rows: Ints, intakes: Mapping[str, Intake]) -> dict[str, int]:
        """Number of videos, of two pictures or more, in the documents `rows`, by the module that they enter."""
        are_videos = np.isin(self.owners, rows) & (self.sizes[:, -1] > 1)
        return {intake.module: int((are_videos & self.kinds[kind]).sum()) for kind, intake in intakes.items()}

    def demands(self, intakes: Mapping[str, Intake]) -> "Demands":
        """The demands of the items of these kinds; items of other kinds are ignored."""
        last, of_items = np.zeros(self.documents, np.int64), np.zeros(len(self.owners), np.int64)
        all_fit = np.ones(self.documents, dtype=np.bool_)
        np.maximum.at(last, self.owners, self.positions)
        for kind, intake in intakes.items():
            is_kind = self.kinds[kind]
            columns = [*(SIZES.index(name) for name in MODALITIES[kind].columns), len(SIZES), len(SIZES) + 1]
            sizes, which = _distinct(self.sizes[is_kind][:, columns])
            extents = [(extent_of(tuple(extent), whole), files) for *extent, whole, files in sizes.tolist()]
            rows = np.array([intake.place(size).rows * len(intake.groups(files)) for size, files in extents], np.int64)
            fits = np.array([intake.fits(size) for size, _files in extents], dtype=np.bool_)
            of_items[is_kind] = rows[which]
            all_fit[self.owners[is_kind][~fits[which]]] = False
        return Demands(self._summed(of_items, self.positions >= 0), last, all_fit, of_items)

    def leading_tokens(self, of_items: Ints, rows: int) -> Ints:
        """Number of tokens, not item rows, among the first `rows` rows of each document, int64 (documents,)."""
        tokens = np.zeros(self.documents, np.int64)
        for token in range(rows):
            tokens += token + self._summed(of_items, self.positions <= token) < rows
        return tokens

    def _summed(self, of_items: Ints, which: Bools) -> Ints:
        """The sum of the rows of the items `which`, int64 (documents,)."""
        total = np.zeros(self.documents, np.int64)
        np.add.at(total, self.owners[which], of_items[which])
        return total


class Demands(NamedTuple):
    """What items need: `of_items` int64 (items,) are the rows of each item; the others are (documents,).

    `rows` are the item rows of a document, `last` is the token that its last item precedes (0 without items), `fits`
    whether its modules accept all of its items.
    """

    rows: Ints
    last: Ints
    fits: Bools
    of_items: Ints


def _distinct(rows: Ints) -> tuple[Ints, Ints]:
    """The distinct rows (distinct, columns), and the index of each row among them, (rows,).

    Columns are sorted one by one; for millions of rows that is many times faster than sorting whole rows.
    """
    first, which = np.zeros(0, np.int64), np.zeros(len(rows), np.int64)
    for column in rows.T:
        values, codes = np.unique(column, return_inverse=True)
        _codes, first, which = np.unique(which * len(values) + codes, return_index=True, return_inverse=True)
    return rows[first], which.astype(np.int64)


def marks_between(index: Index, first: Ints, stop: Ints) -> Ints:
    """Number of targets from token `first` up to, but not including, token `stop` of each document, (documents,)."""
    counts, done = [np.zeros(0, np.int64)], 0
    for chunk in index.table.column("loss").chunks:
        own = slice(done, done + len(chunk))
        begin = chunk.offsets.to_numpy()[:-1].astype(np.int64) - chunk.offsets[0].as_py()
        set_before = np.zeros(len(chunk.flatten()) + 1, np.int64)
        np.cumsum(chunk.flatten().to_numpy(zero_copy_only=False), out=set_before[1:])
        counts.append(set_before[begin + stop[own]] - set_before[begin + first[own]])
        done += len(chunk)
    return np.concatenate(counts)


def list_lengths(index: Index, column: str) -> Ints:
    """The length of each document's list in a column, (documents,)."""
    chunks = [np.diff(chunk.offsets.to_numpy()) for chunk in index.table.column(column).chunks]
    return np.concatenate([np.zeros(0, np.int64), *chunks]).astype(np.int64)
