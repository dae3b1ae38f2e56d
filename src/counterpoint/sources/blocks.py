"""Documents whose payload is read together, such as those of a row group of a parquet file."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from counterpoint.kinds.arrays import Ints
from counterpoint.sources.source import Source


@dataclass(frozen=True, slots=True)
class Blocks:
    """The documents of a source in blocks, which are shuffled together up to about `pool_bytes`.

    Block i has the documents `starts[i]` to `starts[i + 1]`, int64 (blocks + 1,), with `bytes[i]` bytes of payload,
    int64 (blocks,).
    """

    starts: Ints
    bytes: Ints
    pool_bytes: int


@runtime_checkable
class InBlocks(Protocol):
    """A source whose documents should be drawn in blocks."""

    @property
    def blocks(self) -> Blocks | None:
        """The blocks, None if each document is read by itself."""


def blocks_of(source: Source) -> Blocks | None:
    """The blocks of a source, None if it has none."""
    return source.blocks if isinstance(source, InBlocks) else None
