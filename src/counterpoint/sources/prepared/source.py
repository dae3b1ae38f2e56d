"""A split of a prepared index as a source; documents are truncated to the sequence, item rows follow from sizes."""

from collections.abc import Mapping
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats, Ints
from counterpoint.kinds.modality import Extent, Intake, Intakes, Payload
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.content import rows_of
from counterpoint.plan.samples import Document
from counterpoint.sources.blocks import Blocks
from counterpoint.sources.census import Census
from counterpoint.sources.entry import Opening
from counterpoint.sources.fitted import Fitted
from counterpoint.sources.matching import check_vocabulary, intake_at
from counterpoint.sources.payload import TextPayload, lay_items, lay_text
from counterpoint.sources.prepared.document_blocks import document_blocks
from counterpoint.sources.prepared.index import PAYLOAD_NAME, TOKENIZER_NAME, Index, ItemEntry
from counterpoint.sources.prepared.item_table import ItemTable, list_lengths, marks_between
from counterpoint.sources.prepared.spec import DEFAULT_POOL_MIB
from counterpoint.sources.prepared.targets import Targets

DEFAULT_POOL_BYTES = DEFAULT_POOL_MIB * 2**20
_REMEMBERED = 2**12
"""Documents whose metadata is cached: those of several steps, since planning and reading a step both need it."""


class _Piece(NamedTuple):
    """The source of one item: a slice of the files of an entry of the index."""

    entry: ItemEntry
    files: slice

    @property
    def extent(self) -> Extent:
        """The size of the item."""
        return self.entry.seen_extent


class PreparedSource:
    """One split of one index; documents longer than `sequence_tokens` rows lose text at their end, never an item.

    Items of a kind go to the module in `intakes` whose mark the index has for them. A sample whose items do not fit is
    left out; `census` counts these by reason. Loss tokens are counted for the next token and for `mtp_depths` further
    ones. `targets` are the names of targets beside the index that losses read. Row groups of parquet files with
    `pool_bytes` of payload are shuffled together. Raises DataError if the index cannot be read, the split is unknown,
    no sample fits, or no module reads its items.
    """

    def __init__(
        self,
        path: Path,
        split: str,
        source: int,
        intakes: Intakes,
        sequence_tokens: int,
        mtp_depths: int = 0,
        targets: tuple[str, ...] = (),
        pool_bytes: int = DEFAULT_POOL_BYTES,
    ) -> None:
        # Two pools, since a step may read the end of one and the beginning of the next.
        self.index = Index(path, 2 * pool_bytes)
        self._pool_bytes = pool_bytes
        self._source = source
        self._arguments = (path, split, source, intakes, sequence_tokens, mtp_depths, targets, pool_bytes)
        self._targets = {name: Targets(self.index, name) for name in targets}
        rows = self.index.rows_of(split)
        self._items = ItemTable.of(self.index)
        self._by_kind = {
            kind: _intake(self.index, split, intakes, kind, samples)
            for kind, samples in self._items.samples_with(rows).items()
        }
        self.intakes: Intakes = {intake.module: intake for intake in self._by_kind.values()}
        try:
            self._fitted = Fitted(
                rows,
                list_lengths(self.index, "tokens"),
                self._items,
                self._by_kind,
                sequence_tokens,
                mtp_depths,
                partial(marks_between, self.index),
            )
        except DataError as error:
            raise DataError(f"dataset {path}: {error}") from error
        self.rows = self._fitted.rows
        self._pieces = lru_cache(_REMEMBERED)(self._read_pieces)
        self._documents = lru_cache(_REMEMBERED)(self._read_document)
        self.excluded = len(self._fitted.left_out)
        if not len(self.rows):
            raise DataError(
                f"dataset {path}, split '{split}': none of its {len(rows)} samples fits into "
                f"{sequence_tokens} rows; raise data.sequence_tokens, or take fewer rows of an item: "
                "lower modules.*.model.image.max_patches or raise a stack."
            )

    def __reduce__(self) -> tuple[type["PreparedSource"], tuple[object, ...]]:
        # Another process maps the index for itself.
        return PreparedSource, self._arguments

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def blocks(self) -> Blocks | None:
        """The documents by row groups of parquet files, None if none of their payload lies in one."""
        return document_blocks(self.index, self.rows, self._items.owners, self._pool_bytes)

    @property
    def census(self) -> Census:
        """The census of all documents of the split."""
        return self._fitted.census

    @cached_property
    def videos(self) -> Mapping[str, int]:
        """The number of videos, of two pictures or more, by the module that they enter."""
        return self._items.videos_in(self.rows, self._by_kind)

    @property
    def shortened(self) -> Ints:
        """The rows of the index of which something is lost: documents that are cut or left out."""
        return self._fitted.shortened

    def number_of(self, row: int) -> int | None:
        """The number of the document of a row of the index, None for one that is left out."""
        number = int(np.searchsorted(self.rows, row))
        return number if number < len(self.rows) and self.rows[number] == row else None

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        return self._documents(index)

    def _read_document(self, index: int) -> Document:
        kept, pieces = int(self._fitted.kept_tokens[index]), self._pieces(index)
        placed = [self._by_kind[piece.entry.kind].place(piece.extent) for piece in pieces]
        items = lay_items([piece.entry.position for piece in pieces], placed)
        loss_tokens, *further = self._fitted.losses[index].tolist()
        tokens = kept + sum(item.rows for item in items)
        return Document(self._source, index, tokens, loss_tokens, items, tuple(further))

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document, (tokens,) each."""
        document, row, kept = self.document(index), int(self.rows[index]), int(self._fitted.kept_tokens[index])
        tokens, targets = self.index.tokens(row)
        positions = [piece.entry.position for piece in self._pieces(index)]
        return lay_text(tokens[:kept], targets[:kept], positions, [item.rows for item in document.items])

    def where(self, index: int) -> str:
        """The document's row in the index, and the names of its files, or their offsets where names are unknown."""
        row = int(self.rows[index])
        files = [
            f", {entry.kind} {self.index.file_names(entry) or f'at byte {entry.offset} of {PAYLOAD_NAME}'}"
            for entry in self.index.items(row)
        ]
        return f"document {index} of {self.index.folder}: row {row}{''.join(files)}"

    def caption(self, index: int) -> str:
        """The text of a document, for display."""
        return self.index.text(int(self.rows[index]))

    def extent(self, index: int, which: int) -> Extent:
        """The size of an item according to the index."""
        return self._pieces(index)[which].extent

    def item(self, index: int, which: int) -> Payload:
        """The rows of an item; raises DataError if its bytes are bad."""
        piece = self._pieces(index)[which]
        entry, files = piece
        data = self.index.item_files(entry, files)
        try:
            return rows_of(self._by_kind[entry.kind]).read(data, piece.extent)
        except DataError as error:
            names = self.index.file_names(entry, files)
            raise DataError(f"file {names}: {error}" if names else str(error)) from error

    def target(self, index: int, which: int, name: str, width: int, *, of_item: bool) -> Floats:
        """The targets beside the index; items that were made of one entry share its targets, in their order."""
        pieces, items = self._pieces(index), self.document(index).items
        counts = [1 if of_item else item.rows for item in items]
        entry = pieces[which].entry
        first = sum(counts[i] for i in range(which) if pieces[i].entry == entry)
        number = len(dict.fromkeys(piece.entry for piece in pieces[:which] if piece.entry != entry))
        return self._targets[name].read(int(self.rows[index]), number, first, counts[which], width)

    def _read_pieces(self, index: int) -> tuple[_Piece, ...]:
        """The items of a document: one per image or clip, and one per group of pictures that the module merges for a
        video."""
        entries = self.index.items(int(self.rows[index]))
        return tuple(
            _Piece(entry, files) for entry in entries for files in self._by_kind[entry.kind].groups(entry.pictures)
        )


def open_prepared(
    folder: Path, split: str, number: int, opening: Opening, pool_bytes: int = DEFAULT_POOL_BYTES
) -> PreparedSource:
    """Open a split of a folder as source `number`; row groups of `pool_bytes` are shuffled together.

    Raises DataError if it cannot be read, no module has the mark of its items, its tokens were made by another
    tokenizer, or a token exceeds the vocabulary.
    """
    source = PreparedSource(
        folder, split, number, opening.intakes, opening.sequence_tokens, opening.mtp_depths, opening.targets, pool_bytes
    )
    check_vocabulary(f"dataset {folder}", source.index.largest_id, opening.vocabulary)
    made_by, digest = source.index.manifest.tokenizer_sha256, opening.tokenizer_digest
    if digest is not None and made_by != digest:
        raise DataError(
            f"dataset {folder}: its tokens were made by another tokenizer (sha256 {made_by[:12]}) than "
            f"data.tokenizer (sha256 {digest[:12]}); prepare it with that one (--tokenizer), or point "
            f"data.tokenizer at {source.index.folder / TOKENIZER_NAME}."
        )
    return source


def _intake(index: Index, split: str, intakes: Intakes, kind: str, samples: int) -> Intake:
    """The intake of the module that reads the items of a kind: the one whose mark the index has for them.

    `samples` samples of the split contain such items. Raises DataError without such a module.
    """
    name, module = MODALITIES[kind].plural, MODALITIES[kind].read_by
    able = [intake for intake in intakes.values() if intake.kind == kind]
    if not able:
        raise DataError(
            f"dataset {index.folder}, split '{split}': {samples} samples hold {name}, a modality without a module; add "
            f"{module} and its edge, or choose a dataset without {name}."
        )
    return intake_at(f"dataset {index.folder}", name, index.manifest.marks[kind], able)
