"""A split of a prepared index as a source: documents cut to the sequence, item counts from sizes alone."""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from counterpoint.data.index import PAYLOAD_NAME, Index, ItemEntry
from counterpoint.data.item_table import ItemTable, list_lengths
from counterpoint.data.payload import (
    AUDIO,
    FEATURES,
    IMAGE,
    Extent,
    Ints,
    Kind,
    Payload,
    TextPayload,
    lay_items,
    lay_text,
)
from counterpoint.data.takers import Settings, Taker
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Item, text_rows

_REMEMBERED = 2**12
"""Documents whose metadata is kept: several steps of them, since a step plans with it and then reads by it."""


class _Piece(NamedTuple):
    """What one item is made of: some of the files of an entry of the index."""

    entry: ItemEntry
    files: slice


class PreparedSource:
    """One split of one index; text behind the last row of `sequence_tokens` is cut off, an item never is.

    Documents count their loss tokens for `mtp_depths` further tokens, too.

    Its items go to the modules in `settings` that take their kinds' marks. A sample whose items do not fit is left out
    and counted in `excluded`. Raises DataError if the index cannot be read, the split is unknown or nothing fits, or it
    has items that no module takes.
    """

    def __init__(
        self, path: Path, split: str, source: int, settings: Settings, sequence_tokens: int, mtp_depths: int = 0
    ) -> None:
        self.index = Index(path)
        self._mtp_depths = mtp_depths
        self._source = source
        rows = self.index.rows_of(split)
        self._items = ItemTable.of(self.index)
        self._takers = {
            kind: _taker(self.index, split, settings, kind, samples)
            for kind, samples in self._items.samples_with(rows).items()
        }
        self.settings: Settings = {taker.module: taker for taker in self._takers.values()}
        try:
            demands = self._items.demands(self._takers)
        except DataError as error:
            raise DataError(f"dataset {path}: {error}") from error
        item_rows, last_position, all_fit = (values[rows] for values in demands)
        kept_tokens = np.minimum(self._lengths("tokens")[rows], sequence_tokens - item_rows)
        is_kept = all_fit & (kept_tokens >= last_position) & (kept_tokens + item_rows > 0)
        self._rows, self._kept_tokens = rows[is_kept], kept_tokens[is_kept]
        self._pieces = lru_cache(_REMEMBERED)(self._read_pieces)
        self._documents = lru_cache(_REMEMBERED)(self._read_document)
        self.excluded = int(len(rows) - len(self._rows))
        if not len(self._rows):
            raise DataError(
                f"dataset {path}, split '{split}': none of its {len(rows)} samples fits into "
                f"{sequence_tokens} rows; raise data.sequence_tokens, or take fewer rows of an item: "
                "lower modules.*.model.image.max_patches or raise a stack."
            )

    def __len__(self) -> int:
        return len(self._rows)

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        return self._documents(index)

    def _read_document(self, index: int) -> Document:
        row, kept = int(self._rows[index]), int(self._kept_tokens[index])
        pieces = self._pieces(index)
        placed = [self._takers[piece.entry.kind].place(piece.entry.extent) for piece in pieces]
        items = lay_items([piece.entry.position for piece in pieces], placed)
        loss_tokens, *further = (self._loss_tokens(row, kept, items, depth) for depth in range(1 + self._mtp_depths))
        tokens = kept + sum(item.rows for item in items)
        return Document(self._source, index, tokens, loss_tokens, items, tuple(further))

    def _loss_tokens(self, row: int, kept: int, items: tuple[Item, ...], depth: int) -> int:
        """The kept targets behind the first `depth + 1` rows, which no row can predict from so far ahead."""
        first, skipped = int(self._loss_before[row]), min(text_rows(items, depth + 1), kept)
        return int(self._marks_before[first + kept] - self._marks_before[first + skipped])

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document, (tokens,) each."""
        document, row, kept = self.document(index), int(self._rows[index]), int(self._kept_tokens[index])
        tokens, targets = self.index.tokens(row)
        positions = [piece.entry.position for piece in self._pieces(index)]
        return lay_text(tokens[:kept], targets[:kept], positions, [item.rows for item in document.items])

    def where(self, index: int) -> str:
        """Its row of the split in the index, and where its encoded files begin."""
        row = int(self._rows[index])
        files = [f", {entry.kind} at byte {entry.offset} of {PAYLOAD_NAME}" for entry in self.index.items(row)]
        return f"document {index} of {self.index.folder}: row {row}{''.join(files)}"

    def caption(self, index: int) -> str:
        """The document's text for people."""
        return self.index.text(int(self._rows[index]))

    def extent(self, index: int, which: int) -> Extent:
        """The indexed size of an item."""
        return self._pieces(index)[which].entry.extent

    def item(self, index: int, which: int) -> Payload:
        """The rows of an item; raises DataError if its bytes are bad."""
        entry, files = self._pieces(index)[which]
        data = self.index.item_files(entry, files)
        try:
            return self._takers[entry.kind].read(data, entry.extent)
        except DataError as error:
            names = self.index.file_names(entry, files)
            raise DataError(f"file {names}: {error}" if names else str(error)) from error

    def _read_pieces(self, index: int) -> tuple[_Piece, ...]:
        """What the items of a document are made of: an image or clip is one item, a video as many as its module merges
        its pictures into."""
        entries = self.index.items(int(self._rows[index]))
        return tuple(
            _Piece(entry, files) for entry in entries for files in self._takers[entry.kind].groups(len(entry.lengths))
        )

    @cached_property
    def _loss_before(self) -> Ints:
        """Where each document's loss marks begin among all of them, (documents,)."""
        lengths = self._lengths("loss")
        return np.cumsum(lengths) - lengths

    @cached_property
    def _marks_before(self) -> Ints:
        """How many of the first n loss marks are set, (tokens + 1,)."""
        chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in self.index.table.column("loss").chunks]
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(chunks), dtype=np.int64)])

    def _lengths(self, column: str) -> Ints:
        return list_lengths(self.index, column)


def _taker(index: Index, split: str, settings: Settings, kind: Kind, samples: int) -> Taker:
    """The module that takes the items of a kind, which `samples` samples of a split hold: the one whose mark stood for
    them."""
    name, module = _WORDS[kind]
    able = [taker for taker in settings.values() if taker.kind == kind]
    if not able:
        raise DataError(
            f"dataset {index.folder}, split '{split}': {samples} samples hold {name}, a modality without a module; add "
            f"{module} and its edge, or choose a dataset without {name}."
        )
    mark = index.manifest.marks[kind]
    found = next((taker for taker in able if taker.mark == mark), None)
    if found is None:
        taken = ", ".join(f"'{taker.mark}' of module {taker.module}" for taker in able)
        raise DataError(
            f"dataset {index.folder}: its {name} stand at the mark '{mark}', but the edges take {taken}; set the mark "
            f"of an edge to '{mark}'."
        )
    return found


_WORDS: dict[Kind, tuple[str, str]] = {
    IMAGE: ("images", "a vision module"),
    AUDIO: ("clips", "an audio module"),
    FEATURES: ("features", "a module of kind features"),
}
"""What items of a kind are called, and what takes them."""
