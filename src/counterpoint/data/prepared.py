"""A split of a prepared index as a source: documents cut to the sequence, item counts from sizes alone."""

from functools import cached_property
from pathlib import Path

import numpy as np

from counterpoint.data.images import ItemSettings, Settings, read_patches
from counterpoint.data.index import Index
from counterpoint.data.payload import Ints, PatchPayload, Placed, TextPayload, lay_items, lay_text
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Item, text_rows


class PreparedSource:
    """One split of one index; text behind the last row of `sequence_tokens` is cut off, an item never is.

    Documents count their loss tokens for `mtp_depths` further tokens, too.

    Its images go to the module in `settings` that takes its mark. A sample whose items do not fit is left out and
    counted in `excluded`. Raises DataError if the index cannot be read, the split is unknown or nothing fits, or it has
    images that no module takes.
    """

    def __init__(
        self, path: Path, split: str, source: int, settings: Settings, sequence_tokens: int, mtp_depths: int = 0
    ) -> None:
        self.index = Index(path)
        self._mtp_depths = mtp_depths
        self._source = source
        rows = self.index.rows_of(split)
        illustrated = int((self._lengths("images")[rows] > 0).sum())
        self._taker = _taker(self.index, split, settings, illustrated) if illustrated else None
        self.settings = {} if self._taker is None else {self._taker.module: self._taker}
        image_rows, last_position = self._item_extent(rows)
        kept_tokens = np.minimum(self._lengths("tokens")[rows], sequence_tokens - image_rows)
        is_kept = (kept_tokens >= last_position) & (kept_tokens + image_rows > 0)
        self._rows, self._kept_tokens = rows[is_kept], kept_tokens[is_kept]
        self.excluded = int(len(rows) - len(self._rows))
        if not len(self._rows):
            raise DataError(
                f"dataset {path}, split '{split}': none of its {len(rows)} samples fits into "
                f"{sequence_tokens} rows; raise data.sequence_tokens or lower data.image.max_patches."
            )

    def __len__(self) -> int:
        return len(self._rows)

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""
        row, kept = int(self._rows[index]), int(self._kept_tokens[index])
        images = self.index.images(row)
        items: tuple[Item, ...] = ()
        if self._taker is not None:
            taker = self._taker
            placed = [Placed(taker.module, taker.merge, taker.grid(image.height, image.width)) for image in images]
            items = lay_items([image.position for image in images], placed)
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
        positions = [image.position for image in self.index.images(row)]
        return lay_text(tokens[:kept], targets[:kept], positions, [item.rows for item in document.items])

    def caption(self, index: int) -> str:
        """The document's text for people."""
        return self.index.text(int(self._rows[index]))

    def image_bytes(self, index: int, which: int) -> bytes:
        """The encoded bytes of an image, as they were prepared."""
        return self.index.image_bytes(self.index.images(int(self._rows[index]))[which])

    def grid(self, index: int, which: int) -> tuple[int, int]:
        """The patch grid of an image, from its indexed size."""
        assert self._taker is not None, "a document with items comes from a source with item settings"
        image = self.index.images(int(self._rows[index]))[which]
        return self._taker.grid(image.height, image.width)

    def item(self, index: int, which: int) -> PatchPayload:
        """The patch rows of an image; raises DataError if its bytes are bad."""
        assert self._taker is not None, "a document with items comes from a source with item settings"
        image = self.index.images(int(self._rows[index]))[which]
        return read_patches(self.index.image_bytes(image), image.height, image.width, self._taker)

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
        chunks = [np.diff(chunk.offsets.to_numpy()) for chunk in self.index.table.column(column).chunks]
        return np.concatenate(chunks).astype(np.int64)

    def _item_extent(self, rows: Ints) -> tuple[Ints, Ints]:
        """Item rows of each document, and the token that its last item stands before (0 without items)."""
        counts = self._lengths("images")
        total, last = np.zeros(len(counts), np.int64), np.zeros(len(counts), np.int64)
        if self._taker is None or not counts.any():
            return total[rows], last[rows]
        fields = [chunk.flatten() for chunk in self.index.table.column("images").chunks]
        position, height, width = (
            np.concatenate([chunk.field(name).to_numpy() for chunk in fields])
            for name in ("position", "height", "width")
        )
        owner = np.repeat(np.arange(len(counts)), counts)
        sizes, which = np.unique(np.stack([height, width], axis=1), axis=0, return_inverse=True)
        grids = np.array([self._taker.grid(int(h), int(w)) for h, w in sizes], dtype=np.int64)
        np.add.at(total, owner, (grids.prod(axis=1) // self._taker.merge**2)[which.reshape(-1)])
        np.maximum.at(last, owner, position)
        return total[rows], last[rows]


def _taker(index: Index, split: str, settings: Settings, samples: int) -> ItemSettings:
    """The module that takes the images which `samples` samples of a split hold: the one whose mark stood for them."""
    if not settings:
        raise DataError(
            f"dataset {index.folder}, split '{split}': {samples} samples hold images, a modality without a module; add "
            "a vision module and its edge, or choose a dataset without images."
        )
    mark = index.manifest.mark
    found = next((taker for taker in settings.values() if taker.mark == mark), None)
    if found is None:
        taken = ", ".join(f"'{taker.mark}' of module {taker.module}" for taker in settings.values())
        raise DataError(
            f"dataset {index.folder}: its images stand at the mark '{mark}', but the edges take {taken}; set the mark "
            f"of an edge to '{mark}'."
        )
    return found
