"""Parquet files. Files inside of them are named by row group, row and column, and read from there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from counterpoint.data.prepare.readers.arrow_table import ERRORS, Cell, Table, shown
from counterpoint.data.prepare.shapes.shape import Columns
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

SHARD_ROWS = 1024
_BATCH_ROWS = 64
_BUFFER_BYTES = 2**20
"""Read at a time; without it a column of a row group is read whole, also for its first rows."""
_SUFFIX = ".parquet"


@final
class ParquetReader:
    """Reads *.parquet; a shard is some row groups, of SHARD_ROWS rows if they are small."""

    is_declared = True

    def takes(self, file: Path) -> bool:
        """Whether the file is named so."""
        return file.suffix.lower() == _SUFFIX

    def columns(self, file: Path) -> Columns:
        """Its columns; the first rows say what is a file, where the schema does not."""
        with _Opened(file) as parquet:
            return _table(parquet, file).columns

    def shards(self, file: Path, split: str) -> list[Shard]:
        """Runs of row groups; raises DataError if there is no row."""
        with _Opened(file) as parquet:
            metadata = parquet.metadata
            sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        if not sum(sizes):
            raise DataError(f"{file}: holds no row, expected at least one; leave the file out.")
        shards, begin, first, rows = [], 0, 0, 0
        for group, size in enumerate(sizes, start=1):
            rows += size
            if rows >= SHARD_ROWS or group == len(sizes):
                shards.append(Shard("parquet", file, begin, group, split, first))
                begin, first, rows = group, first + rows, 0
        return shards

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of its row groups; at most one row group is in memory."""
        number = shard.first
        with _Opened(shard.file) as parquet:
            table = _table(parquet, shard.file)
            names = [name for name in table.columns if not shard.columns or name in shard.columns]
            for group in range(shard.begin, shard.stop):
                first = 0
                for batch in _batches(parquet, group, names, shard.file):
                    cells: dict[str, Cell] = {
                        name: _Cell(shard.file, group, first, name) for name in table.files if name in names
                    }
                    for values in table.rows(batch, cells):
                        yield Row(f"{shard.file}: row {number}", values)
                        number += 1
                    first += batch.num_rows


@final
class _Cell:
    """Makes the files of a column."""

    def __init__(self, file: Path, group: int, first: int, column: str) -> None:
        self._file, self._group, self._first, self._column = file, group, first, column

    def __call__(self, row: int, at: int | None, data: bytes, name: str) -> Stored:
        column = self._column if at is None else f"{self._column}.{at}"
        place = self._first + row
        called = f"{name or column} of row {place} of group {self._group}"
        return Stored(self._file, place, len(data), self._group, column, called, data)


@final
class _Opened:
    """An open parquet file; errors of the library are DataErrors that name it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> pq.ParquetFile:
        try:
            self._parquet = pq.ParquetFile(self._file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        except ERRORS as error:
            raise _bad(self._file, error) from None
        return self._parquet

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._parquet.close(force=True)
        if isinstance(error, ERRORS) and not isinstance(error, DataError):
            raise _bad(self._file, error) from None


def _table(parquet: pq.ParquetFile, file: Path) -> Table:
    def first(names: Sequence[str]) -> pa.RecordBatch | None:
        group = next(
            (group for group in range(parquet.num_row_groups) if parquet.metadata.row_group(group).num_rows), 0
        )
        return next(_batches(parquet, group, names, file), None) if parquet.num_row_groups else None

    return Table.of(parquet.schema_arrow, file, first)


def _batches(parquet: pq.ParquetFile, group: int, names: Sequence[str], file: Path) -> Iterator[pa.RecordBatch]:
    # A name with a dot would be taken as a path to a field.
    columns = None if any("." in name for name in names) else list(names)
    for batch in parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
        try:
            batch.validate(full=True)
        except ERRORS as error:
            raise _bad(file, error) from None
        yield batch.select(list(names))


def _bad(file: Path, error: BaseException) -> DataError:
    return DataError(f"{file}: is no parquet file that can be read ({shown(error)}); fetch or write it again.")
