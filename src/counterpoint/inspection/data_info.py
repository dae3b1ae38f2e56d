"""What lies in a prepared folder: documents, tokens, items and files, from the columns of its index alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc  # type: ignore[import-untyped]

from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Ints
from counterpoint.kinds.modality import SIZES
from counterpoint.modalities import MODALITIES
from counterpoint.sources.prepared.index import ARROW_NAME, PAYLOAD_NAME, TOKENIZER_NAME, Index
from counterpoint.sources.prepared.item_table import ItemTable, list_lengths, marks_between
from counterpoint.sources.prepared.stores import FOLDER

if TYPE_CHECKING:
    from counterpoint.inspection.data_view import DataView

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Spread:
    """How numbers are spread: `percentiles` are values by percent, each one that occurs."""

    mean: float
    smallest: int
    percentiles: dict[int, int]
    largest: int

    @classmethod
    def of(cls, values: Ints) -> "Spread":
        """The spread of at least one number."""
        chosen = np.percentile(values, PERCENTILES, method="inverted_cdf").tolist()
        percentiles = dict(zip(PERCENTILES, map(int, chosen), strict=True))
        return cls(float(values.mean()), int(values.min()), percentiles, int(values.max()))


@dataclass(frozen=True, slots=True)
class ItemInfo:
    """The items of one kind: their number, that of their files, and the spread of each size, by its column."""

    items: int
    files: int
    sizes: dict[str, Spread]


@dataclass(frozen=True, slots=True)
class Fit:
    """How the documents of a split fit into a sequence: the number of which something is lost, and more in words."""

    shortened: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """What lies in a prepared folder.

    `tokens` are of a document, without item rows; None without a document. `loss_share` is the share of tokens that are
    targets, `stores` the bytes of each file, also of those beside the folder that it refers to, by their paths; of
    another folder (its path ends with a slash) those of the files that documents have. `fit` says by split how
    documents fit into the sequence that was asked for; empty if none was.
    """

    folder: str
    identity: str
    documents: int
    splits: dict[str, int]
    tokens: Spread | None
    loss_share: float
    items: dict[str, ItemInfo]
    chat: str | None
    tokenizer_sha256: str
    vocabulary: int | None
    stores: dict[str, int]
    fit: dict[str, Fit]

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def data_info(folder: Path, config: Path | None = None, sequence_tokens: int | None = None) -> DataInfo:
    """Look into a prepared folder.

    `config` is that of a run, by which item rows are known, `sequence_tokens` the length of a sequence (None: the
    config's, if there is one). Without a config only the text of documents is compared with it. Raises DataError for
    a folder that cannot be read, ConfigError for a bad config.
    """
    index = Index(folder)
    manifest, table, lengths = index.manifest, ItemTable.of(index), list_lengths(index, "tokens")
    targets = int(marks_between(index, np.zeros_like(lengths), lengths).sum())
    return DataInfo(
        folder=str(folder),
        identity=manifest.identity,
        documents=manifest.documents,
        splits=dict(manifest.splits),
        tokens=Spread.of(lengths) if len(lengths) else None,
        loss_share=targets / max(int(lengths.sum()), 1),
        items=dict(_items(table)),
        chat=manifest.chat,
        tokenizer_sha256=manifest.tokenizer_sha256,
        vocabulary=_vocabulary(folder / TOKENIZER_NAME),
        stores=_stores(index),
        fit=_fit(index, lengths, config, sequence_tokens),
    )


def _items(table: ItemTable) -> Mapping[str, ItemInfo]:
    found = {}
    for kind, is_kind in table.kinds.items():
        sizes = table.sizes[is_kind]
        if len(sizes):
            columns = {name: Spread.of(sizes[:, SIZES.index(name)]) for name in MODALITIES[kind].columns}
            found[kind] = ItemInfo(len(sizes), int(sizes[:, -1].sum()), columns)
    return found


def _vocabulary(path: Path) -> int | None:
    """The size of the tokenizer's vocabulary, None for one that cannot be read."""
    try:
        return Tokenizer.load(path).vocabulary
    except DataError:
        return None


def _stores(index: Index) -> dict[str, int]:
    manifest = index.manifest
    found = {ARROW_NAME: manifest.arrow_bytes, PAYLOAD_NAME: manifest.payload_bytes}
    for number, (store, path) in enumerate(index.stores.listed, start=1):
        if store.kind == FOLDER:
            found[f"{path}/"] = _named_bytes(index, number)
        else:
            found[str(path)] = store.bytes
    return found


def _named_bytes(index: Index, store: int) -> int:
    """The bytes of the files of a folder that items name, each counted once."""
    sizes: dict[str, int] = {}
    for chunk in index.table.column("items").chunks:
        items = chunk.flatten()
        own = items.filter(pc.equal(items.field("store"), store))
        names, lengths = (own.field(name).flatten().to_pylist() for name in ("names", "lengths"))
        sizes.update(zip(names, lengths, strict=True))
    return sum(sizes.values())


def _fit(index: Index, lengths: Ints, config: Path | None, sequence_tokens: int | None) -> dict[str, Fit]:
    splits = index.manifest.splits
    if config is not None:
        from counterpoint.inspection.data_view import DataView

        view = DataView.of(config, sequence_tokens)
        return {split: _fit_of(view, index, split) for split in splits}
    if sequence_tokens is None:
        return {}
    longer = {split: int((lengths[index.rows_of(split)] > sequence_tokens).sum()) for split in splits}
    return {
        split: Fit(count, f"{count:,} of {splits[split]:,} documents have more than {sequence_tokens} tokens of text")
        for split, count in longer.items()
    }


def _fit_of(view: "DataView", index: Index, split: str) -> Fit:
    try:
        source = view.open(index.folder, split)
    except DataError as error:
        return Fit(index.manifest.splits[split], str(error))
    return Fit(len(source.shortened), f"{source.census.words} (sequences of {view.sequence_tokens} rows)")
