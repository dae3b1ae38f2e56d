"""Arrow files as `datasets` saves them (`save_to_disk`), streams of record batches, and files with an index of these.

The file is mapped into memory. Files inside of it are ranges of its bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from counterpoint.data.prepare.readers.arrow_table import ERRORS, Cell, Table, shown
from counterpoint.data.prepare.shapes.shape import Columns
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

SHARD_ROWS = 1024
_SLICE_ROWS = 64
_SUFFIX = ".arrow"
_FILE_MAGIC = b"ARROW1"


@final
class ArrowReader:
    """Reads *.arrow; a shard is some record batches, of SHARD_ROWS rows if they are small."""

    is_declared = True

    def takes(self, file: Path) -> bool:
        """Whether the file is named so."""
        return file.suffix.lower() == _SUFFIX

    def columns(self, file: Path) -> Columns:
        """Its columns; the first rows say what is a file, where the schema does not."""
        return _Mapped(file).table.columns

    def shards(self, file: Path, split: str) -> list[Shard]:
        """Runs of record batches; raises DataError if there is no row."""
        shards, begin, first, rows, batches = [], 0, 0, 0, 0
        for batch in _Mapped(file).batches():
            rows, batches = rows + batch.num_rows, batches + 1
            if rows >= SHARD_ROWS:
                shards.append(Shard("arrow", file, begin, batches, split, first))
                begin, first, rows = batches, first + rows, 0
        if rows:
            shards.append(Shard("arrow", file, begin, batches, split, first))
        if not shards:
            raise DataError(f"{file}: holds no row, expected at least one; leave the file out.")
        return shards

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The rows of its batches."""
        mapped = _Mapped(shard.file)
        names = [name for name in mapped.table.columns if not shard.columns or name in shard.columns]
        row = shard.first
        for which, batch in enumerate(mapped.batches()):
            if which >= shard.stop:
                break
            if which < shard.begin:
                continue
            try:
                batch.validate(full=True)
                for begin in range(0, batch.num_rows, _SLICE_ROWS):
                    chosen = batch.select(names).slice(begin, _SLICE_ROWS)
                    cells: dict[str, Cell] = {
                        name: _Cell(mapped, chosen.column(number), name)
                        for number, name in enumerate(names)
                        if name in mapped.table.files
                    }
                    for values in mapped.table.rows(chosen, cells):
                        yield Row(f"{shard.file}: row {row}", values)
                        row += 1
            except ERRORS as error:
                raise _bad(shard.file, error) from None


@final
class _Mapped:
    """A file that is mapped into memory, with its schema; raises DataError if it is damaged."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with pa.memory_map(str(file)) as mapped:
                self.bytes = mapped.read_buffer()
            self.table = Table.of(self._reader().schema, file, lambda _names: next(self.batches(), None))
        except DataError:
            raise
        except ERRORS as error:
            raise _bad(file, error) from None

    def _reader(self) -> Any:
        if self.bytes.slice(0, min(len(_FILE_MAGIC), self.bytes.size)).to_pybytes() == _FILE_MAGIC:
            return pa.ipc.open_file(pa.BufferReader(self.bytes))
        return pa.ipc.open_stream(pa.BufferReader(self.bytes))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its record batches, which are parts of the mapping unless they are compressed."""
        try:
            reader = self._reader()
            if isinstance(reader, pa.ipc.RecordBatchFileReader):
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)
            else:
                yield from reader
        except ERRORS as error:
            raise _bad(self.file, error) from None


@final
class _Cell:
    """Makes the files of a column: ranges of the file's bytes, or copies where the batch is compressed."""

    def __init__(self, mapped: _Mapped, column: pa.Array, name: str) -> None:
        self._mapped, self._name = mapped, name
        self._lists = _offsets(column) if pa.types.is_list(column.type) or pa.types.is_large_list(column.type) else None
        inner = column if self._lists is None else column.values
        held = inner.field("bytes") if pa.types.is_struct(inner.type) else inner
        self._starts = _offsets(held) if pa.types.is_binary(held.type) or pa.types.is_large_binary(held.type) else None
        data = held.buffers()[2] if self._starts is not None else None
        self._base = -1 if data is None else data.address - mapped.bytes.address
        if data is None or not 0 <= self._base <= self._base + data.size <= mapped.bytes.size:
            self._starts = None

    def __call__(self, row: int, at: int | None, data: bytes, name: str) -> Stored | bytes:
        called = name or (self._name if at is None else f"{self._name}.{at}")
        place = row if self._lists is None or at is None else int(self._lists[row]) + at
        if self._starts is None or (at is not None and self._lists is None):
            return data
        return Stored(self._mapped.file, self._base + int(self._starts[place]), len(data), name=called)


def _offsets(array: pa.Array) -> np.ndarray:
    """Where each element of a list or of bytes begins, in its values."""
    is_large = pa.types.is_large_list(array.type) or pa.types.is_large_binary(array.type)
    offsets = np.frombuffer(array.buffers()[1], np.int64 if is_large else np.int32)
    return offsets[array.offset : array.offset + len(array) + 1]


def _bad(file: Path, error: BaseException) -> DataError:
    return DataError(f"{file}: is no Arrow file that can be read ({shown(error)}); fetch or write it again.")
