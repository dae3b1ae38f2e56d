"""The units of work of `prepare`: shards of files, and the rows that a reader finds in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from counterpoint.data.prepare.shapes.shape import Columns


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a file that one process reads: `begin` to `stop`, in the unit of its `reader`, a key of READERS.

    A shard can be pickled and holds no open file. `first` is the number by which messages call the row at `begin`. The
    shards of a file depend on the file alone, not on the number of processes. `shape` is a key of SHAPES; `columns` are
    those to read, or none for all.
    """

    reader: str
    file: Path
    begin: int
    stop: int
    split: str
    first: int = 1
    shape: str = "turns"
    columns: tuple[str, ...] = ()


class Row(NamedTuple):
    """One row as it is published: its `place` in words, beginning with the path of its file, and its `values`.

    Binary cells are `Stored`. The values are a DataError if this row cannot be read although the next one can.
    """

    place: str
    values: object


class RowReader(Protocol):
    """Reads one kind of file."""

    @property
    def is_declared(self) -> bool:
        """Whether files say all of their columns; otherwise the first rows show some."""

    def columns(self, file: Path) -> Columns:
        """The columns of a file, none if no row can be read; raises DataError if the file cannot be."""

    def takes(self, file: Path) -> bool:
        """Whether a file is of this kind; raises DataError if it cannot be read."""

    def shards(self, file: Path, split: str) -> list[Shard]:
        """The shards of a file, in its order; raises DataError if it holds no row or cannot be read."""

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of a shard, in their order; raises DataError if its file cannot be read on."""
