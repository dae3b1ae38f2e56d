"""An epoch in blocks: blocks are permuted, and the documents of neighbouring ones are shuffled as one pool.

So a row group of a parquet file is read once in an epoch by each process that needs it, while it stays in memory. Every
epoch is a bijection, from its key alone.
"""

from functools import lru_cache
from typing import NamedTuple, final

import numpy as np

from counterpoint.data.order.permute import permute
from counterpoint.kinds.arrays import Ints
from counterpoint.sources.blocks import Blocks

_EPOCHS_KEPT = 4
_OF_BLOCKS, _OF_POOLS = 1, 2


class _Epoch(NamedTuple):
    """The permuted blocks: their first documents, where they begin in the epoch, and where each pool does."""

    documents: Ints
    begins: Ints
    pools: Ints


@final
class BlockOrder:
    """From positions in an epoch to documents, in blocks."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._epoch = lru_cache(_EPOCHS_KEPT)(self._permuted)

    def __reduce__(self) -> tuple[type["BlockOrder"], tuple[Blocks]]:
        # A cache cannot be pickled, and another process needs none of what is in it.
        return BlockOrder, (self._blocks,)

    def documents(self, positions: Ints, key: tuple[int, ...]) -> Ints:
        """The documents at `positions` (n,) of the epoch of `key`, (n,)."""
        epoch = self._epoch(key)
        pool = np.searchsorted(epoch.pools, positions, side="right") - 1
        place = np.empty_like(positions)
        for number in np.unique(pool).tolist():
            chosen = pool == number
            begin, end = epoch.pools[number : number + 2].tolist()
            place[chosen] = begin + permute(positions[chosen] - begin, end - begin, (*key, _OF_POOLS, number))
        block = np.searchsorted(epoch.begins, place, side="right") - 1
        return epoch.documents[block] + place - epoch.begins[block]

    def _permuted(self, key: tuple[int, ...]) -> _Epoch:
        count = len(self._blocks.bytes)
        order = permute(np.arange(count), count, (*key, _OF_BLOCKS))
        sizes, data = np.diff(self._blocks.starts)[order], self._blocks.bytes[order]
        begins = np.cumsum(sizes) - sizes
        pool = (np.cumsum(data) - data) // self._blocks.pool_bytes
        firsts = np.flatnonzero(np.diff(pool, prepend=-1))
        return _Epoch(self._blocks.starts[:-1][order], begins, np.append(begins[firsts], sizes.sum()))
