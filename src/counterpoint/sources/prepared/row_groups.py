"""Cells of parquet files by row group: a row group is read as a whole, and kept while there is room."""

from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]

from counterpoint.errors import DataError

_BYTES = "bytes"
"""The field of a struct that holds an encoded file."""


class _Key(NamedTuple):
    path: Path
    group: int
    column: str


class RowGroups:
    """Columns of row groups in memory, at most `limit_bytes` of them, the least recently used leave first.

    The last one that was read stays even if it is larger. Threads that want the same row group wait for one read of it.
    `count` is called with the bytes of every read, as they lie in the file.
    """

    def __init__(self, limit_bytes: int, count: Callable[[int], None]) -> None:
        self._limit, self._count = limit_bytes, count
        self._lock = Lock()
        self._columns: OrderedDict[_Key, Future[Any]] = OrderedDict()
        self._sizes: dict[_Key, int] = {}

    @property
    def bytes_kept(self) -> int:
        """Bytes of all row groups in memory."""
        with self._lock:
            return sum(self._sizes.values())

    def cell(self, path: Path, group: int, column: str, row: int) -> bytes:
        """The encoded file in a row of a row group: at `column`, or at an element of a list there ("images.2").

        Raises DataError if there is none, or if the file cannot be read.
        """
        name, _dot, element = column.rpartition(".")
        is_element = bool(name) and element.isdecimal()
        try:
            cells = self._column(_Key(path, group, name if is_element else column))
            if not 0 <= row < len(cells):
                raise IndexError(f"it has {len(cells)} rows")
            cell = cells[row].values[int(element)] if is_element else cells[row]
            return _encoded(cell)
        except (pa.ArrowException, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"file {path}: row {row} of row group {group} has no encoded file at '{column}' ({error}); restore the "
                "file, or prepare the dataset again."
            ) from error

    def _column(self, key: _Key) -> Any:
        with self._lock:
            found = self._columns.get(key)
            if found is not None:
                self._columns.move_to_end(key)
            else:
                mine = self._columns[key] = Future()
        if found is not None:
            return found.result()
        try:
            column, read = _read(key)
        except BaseException as error:
            with self._lock:
                del self._columns[key]
            mine.set_exception(error)
            raise
        self._count(read)
        with self._lock:
            self._sizes[key] = column.nbytes
            self._drop_oldest(key)
        mine.set_result(column)
        return column

    def _drop_oldest(self, newest: _Key) -> None:
        kept = sum(self._sizes.values())
        for key in [key for key in self._columns if key in self._sizes and key != newest]:
            if kept <= self._limit:
                return
            kept -= self._sizes.pop(key)
            del self._columns[key]


def _read(key: _Key) -> tuple[Any, int]:
    """A column of a row group, and the bytes that it has in the file."""
    # Few datasets have row groups, and all commands that open one would import what reads them.
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with pq.ParquetFile(key.path) as file:
        if not 0 <= key.group < file.num_row_groups:
            raise IndexError(f"the file has {file.num_row_groups} row groups")
        chunks = (file.metadata.row_group(key.group).column(place) for place in range(file.metadata.num_columns))
        own = [each for each in chunks if each.path_in_schema.partition(".")[0] == key.column.partition(".")[0]]
        return file.read_row_group(key.group, columns=[key.column], use_threads=False).column(0), sum(
            each.total_compressed_size for each in own
        )


def _encoded(cell: Any) -> bytes:
    """The bytes of a cell, which are all of it or a field of it."""
    value = cell[_BYTES].as_py() if pa.types.is_struct(cell.type) else cell.as_py()
    if not isinstance(value, bytes):
        raise TypeError("the cell holds no bytes")
    return value
