"""Which documents of an index lie in the same row group of a parquet file."""

import numpy as np

from counterpoint.kinds.arrays import Ints
from counterpoint.sources.blocks import Blocks
from counterpoint.sources.prepared.index import WITHOUT_STORES, Index

MOST_LOOSE = 1024
"""Documents without a row group that join the block before them, or make one of their own."""


def document_blocks(index: Index, rows: Ints, owners: Ints, pool_bytes: int) -> Blocks | None:
    """The blocks of the documents in `rows`, ascending; None if no item lies in a parquet file.

    `owners` int64 (items,) are the rows that the items of the index belong to.
    """
    if index.manifest.version <= WITHOUT_STORES:
        return None
    items = [chunk.flatten() for chunk in index.table.column("items").chunks]
    store, group = (
        np.concatenate([np.zeros(0, np.int64), *(each.field(name).to_numpy() for each in items)])
        for name in ("store", "group")
    )
    if not (group >= 0).any():
        return None
    lengths = [each.field("lengths").flatten().to_numpy() for each in items]
    counts = [np.diff(each.field("lengths").offsets.to_numpy()) for each in items]
    files = np.repeat(owners, np.concatenate(counts))
    size = np.zeros(index.manifest.documents, np.int64)
    np.add.at(size, files, np.concatenate(lengths))
    key = np.full(index.manifest.documents, -1, np.int64)
    is_grouped = group >= 0
    key[owners[is_grouped]] = store[is_grouped].astype(np.int64) << 32 | group[is_grouped].astype(np.int64)
    starts = _starts(key[rows])
    return Blocks(starts, np.add.reduceat(size[rows], starts[:-1]), pool_bytes)


def _starts(keys: Ints) -> Ints:
    """The first document of each block and the number of documents, from their row groups (-1: none)."""
    places = np.arange(len(keys))
    last = np.maximum.accumulate(np.where(keys >= 0, places, -1))
    near = (last >= 0) & (places - last <= MOST_LOOSE)
    joined = np.where(near, keys[np.maximum(last, 0)], -1 - (places - np.maximum(last, 0)) // MOST_LOOSE)
    changes = np.flatnonzero(np.diff(joined)) + 1
    return np.concatenate([[0], changes, [len(keys)]]).astype(np.int64)
