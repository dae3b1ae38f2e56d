"""Samples of one's own as a source: planned from their sizes, as a prepared index is, and read by index."""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, final

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.modality import SIZES, Extent, Intake, Intakes, Payload, extent_of
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.content import rows_of
from counterpoint.plan.samples import Document
from counterpoint.sources.census import Census
from counterpoint.sources.entry import Opening
from counterpoint.sources.fitted import Fitted
from counterpoint.sources.matching import check_vocabulary, intake_at
from counterpoint.sources.payload import TextPayload, lay_items, lay_text
from counterpoint.sources.registered.samples import Samples, SizeTable

_REMEMBERED = 2**12


class _Piece(NamedTuple):
    """One item for a module: the number of the sample's item, which of its files, where it stands, and its size."""

    which: int
    files: slice
    position: int
    kind: str
    extent: Extent


@final
class SamplesSource:
    """The samples that fit into a sequence; others are left out or cut, and counted, like those of an index.

    Items of a kind go to the one module that takes them, or, of several, to that of their modality's own mark. Raises
    DataError if a size contradicts itself, no sample fits, no module takes an item, or a token exceeds the vocabulary.
    """

    index = None

    def __init__(self, samples: Samples, name: str, number: int, opening: Opening, *, is_sequential: bool) -> None:
        self._given = (samples, name, number, opening, is_sequential)
        self._samples, self._name, self._number, self._vocabulary = samples, name, number, opening.vocabulary
        self.is_sequential = is_sequential
        try:
            self._table: SizeTable = samples.table()
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        items, every = self._table.items, np.arange(len(self._table.lengths), dtype=np.int64)
        self._by_kind = {kind: _intake(opening.intakes, kind, name) for kind in items.samples_with(every)}
        self.intakes: Intakes = {intake.module: intake for intake in self._by_kind.values()}
        try:
            self._fitted = Fitted(
                every,
                self._table.lengths,
                items,
                self._by_kind,
                opening.sequence_tokens,
                opening.mtp_depths,
                self._table.targets_between,
            )
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        if not len(self._fitted.rows):
            raise DataError(
                f"{name}: none of its {len(every)} samples fits into {opening.sequence_tokens} rows; raise "
                "data.sequence_tokens, or take fewer rows of an item."
            )
        if self._table.largest_id is not None:
            self._check_id(self._table.largest_id)
        self._first_items = np.searchsorted(items.owners, np.arange(len(every) + 1))
        self._first_spans = np.searchsorted(self._table.spans[:, 0], np.arange(len(every) + 1))
        self._pieces = lru_cache(_REMEMBERED)(self._read_pieces)
        self._documents = lru_cache(_REMEMBERED)(self._read_document)

    def __reduce__(self) -> tuple[Any, ...]:
        samples, name, number, opening, is_sequential = self._given
        return _opened, (samples, name, number, opening, is_sequential)

    def __len__(self) -> int:
        return len(self._fitted.rows)

    @property
    def census(self) -> Census:
        """The census of all samples."""
        return self._fitted.census

    @cached_property
    def videos(self) -> Mapping[str, int]:
        """The number of videos, of two pictures or more, by the module that they enter."""
        return self._table.items.videos_in(self._fitted.rows, self._by_kind)

    def where(self, index: int) -> str:
        """The document's number, and that of its sample."""
        return f"document {index} of {self._name}: sample {self._fitted.rows[index]}"

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        return self._documents(index)

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document, (tokens,) each; raises DataError if they are not as its size says."""
        row, kept = int(self._fitted.rows[index]), int(self._fitted.kept_tokens[index])
        tokens, length = np.asarray(self._samples.tokens(row)), int(self._table.lengths[row])
        if tokens.size and (tokens.dtype.kind not in "iu" or tokens.min() < 0):
            raise DataError(
                f"{self.where(index)} has tokens of type {tokens.dtype}, the least {tokens.min()}, expected ids, "
                "whole numbers from 0; correct what returns them."
            )
        tokens = tokens.astype(np.int64)
        if tokens.shape != (length,):
            raise DataError(
                f"{self.where(index)} has tokens of shape {tokens.shape}, but its size says {length}; let both be the "
                "same in every run."
            )
        self._check_id(int(tokens.max(initial=-1)))
        targets = np.zeros(length, dtype=np.bool_)
        for _owner, first, stop in self._table.spans[self._first_spans[row] : self._first_spans[row + 1]].tolist():
            targets[first:stop] = True
        positions = [piece.position for piece in self._pieces(index)]
        rows = [item.rows for item in self.document(index).items]
        return lay_text(tokens[:kept], targets[:kept], positions, rows)

    def extent(self, index: int, which: int) -> Extent:
        """The size of an item."""
        return self._pieces(index)[which].extent

    def item(self, index: int, which: int) -> Payload:
        """The rows of an item; raises DataError if its bytes are bad."""
        piece, row = self._pieces(index)[which], int(self._fitted.rows[index])
        files = self._samples.files(row, piece.which)[piece.files]
        return rows_of(self._by_kind[piece.kind]).read(files, piece.extent)

    def _read_document(self, index: int) -> Document:
        kept, pieces = int(self._fitted.kept_tokens[index]), self._pieces(index)
        placed = [self._by_kind[piece.kind].place(piece.extent) for piece in pieces]
        items = lay_items([piece.position for piece in pieces], placed)
        loss_tokens, *further = self._fitted.losses[index].tolist()
        tokens = kept + sum(item.rows for item in items)
        return Document(self._number, index, tokens, loss_tokens, items, tuple(further))

    def _read_pieces(self, index: int) -> tuple[_Piece, ...]:
        """The items of a document, as a module takes them: one for each group of pictures that it merges."""
        row, positions = int(self._fitted.rows[index]), self._table.items.positions
        first, stop = self._first_items[row : row + 2].tolist()
        return tuple(
            _Piece(number - first, files, int(positions[number]), kind, extent)
            for number in range(first, stop)
            for kind, extent, count in (self._item(number),)
            for files in self._by_kind[kind].groups(count)
        )

    def _item(self, number: int) -> tuple[str, Extent, int]:
        """Kind, size and number of files of an item of the table."""
        table = self._table.items
        kind = next(kind for kind, are_kind in table.kinds.items() if are_kind[number])
        size = dict(zip(SIZES, table.sizes[number].tolist()))
        extent, files = tuple(size[name] for name in MODALITIES[kind].columns), int(table.sizes[number, -1])
        return kind, extent_of(extent, files), files

    def _check_id(self, largest: int) -> None:
        check_vocabulary(self._name, largest, self._vocabulary)


def _opened(samples: Samples, name: str, number: int, opening: Opening, is_sequential: bool) -> SamplesSource:
    """Restore a pickled source."""
    return SamplesSource(samples, name, number, opening, is_sequential=is_sequential)


def _intake(intakes: Intakes, kind: str, name: str) -> Intake:
    modality = MODALITIES[kind]
    able = [intake for intake in intakes.values() if intake.kind == kind]
    if not able:
        raise DataError(
            f"{name}: it holds {modality.plural}, a modality without a module; add {modality.read_by} and its edge, or "
            f"leave the {modality.plural} out."
        )
    return able[0] if len(able) == 1 else intake_at(name, modality.plural, modality.mark, able)
