"""Columns of Arrow as rows: which hold files, and what a cell is."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import pyarrow as pa  # type: ignore[import-untyped]

from counterpoint.data.prepare.readers.sniff import LOOKED_AT, SUFFIXES, sniff
from counterpoint.data.prepare.shapes.shape import (
    BINARY,
    FILE_KINDS,
    NULL,
    NUMBER,
    OTHER,
    STRUCT,
    TEXT,
    Columns,
    element,
)
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored

ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, MemoryError, OverflowError, NotImplementedError)
"""What pyarrow raises for files that are damaged."""

_FILE_FIELDS = frozenset(("bytes", "path"))
_METADATA = b"huggingface"
_FEATURES = {"Image": "image", "Audio": "audio", "Video": "video"}


class Cell(Protocol):
    """What makes an element of a column of files, None for a list's only one, of its bytes and its path."""

    def __call__(self, row: int, at: int | None, data: bytes, name: str) -> Stored | bytes:
        """Where the bytes lie, or they themselves, to be copied."""


@final
@dataclass(frozen=True)
class Table:
    """The columns of a schema; those of files have their kind from the metadata of `datasets`, else from some bytes."""

    columns: Columns

    @classmethod
    def of(cls, schema: pa.Schema, file: Path, first: Callable[[Sequence[str]], pa.RecordBatch | None]) -> "Table":
        """From a schema and, where that does not say which columns hold files, the `first` rows of these columns.

        Raises DataError if a name comes twice.
        """
        names = list(schema.names)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{file}: has two columns '{twice}', expected names that differ; rename one.")
        features = _features(schema)
        columns = {field.name: _declared(features.get(field.name)) or _kind(field.type, None) for field in schema}
        unclear = [
            field.name for field in schema if element(columns[field.name]) not in FILE_KINDS and _is_unclear(field.type)
        ]
        batch = first(unclear) if unclear else None
        if batch is None:
            return cls(columns)
        for name in unclear:
            values = batch.column(batch.schema.get_field_index(name))
            # A damaged file may hold values of another type than its schema says.
            columns[name] = _kind(values.type, values)
        return cls(columns)

    def rows(self, batch: pa.RecordBatch, cell: Mapping[str, Cell]) -> Iterator[dict[str, Any]]:
        """The rows of a batch; `cell` makes the files of each column of files."""
        values = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            read = column.to_pylist()
            if name in cell:
                read = [_files(value, row, cell[name]) for row, value in enumerate(read)]
            elif _holds_bytes(column.type):
                read = [_inline(value) for value in read]
            values.append(read)
        for row in zip(*values, strict=True):
            yield dict(zip(batch.schema.names, row, strict=True))

    @property
    def files(self) -> tuple[str, ...]:
        """Columns whose cells are files, or lists of them."""
        return tuple(name for name, kind in self.columns.items() if element(kind) in FILE_KINDS)


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """What the library `datasets` says of the columns, if it wrote the schema."""
    try:
        features = json.loads((schema.metadata or {})[_METADATA])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _is_unclear(type_: pa.DataType) -> bool:
    """Whether only the bytes of a column say whether they are files."""
    if _is_list(type_):
        return _is_unclear(type_.value_type)
    if pa.types.is_struct(type_):
        return {type_.field(number).name for number in range(type_.num_fields)} == _FILE_FIELDS
    return _is_binary(type_)


def _declared(feature: object) -> str | None:
    """The kind of a column of files by what `datasets` says: one of them, or a list."""
    if isinstance(feature, list) and len(feature) == 1:
        inner = _declared(feature[0])
        return None if inner is None else f"list<{inner}>"
    if not isinstance(feature, dict):
        return None
    kind = feature.get("_type")
    if kind in ("Sequence", "List", "LargeList"):
        inner = _declared(feature.get("feature"))
        return None if inner is None else f"list<{inner}>"
    return _FEATURES.get(kind) if isinstance(kind, str) else None


def _kind(type_: pa.DataType, values: pa.Array | None) -> str:
    if _is_list(type_):
        inner = None
        if values is not None:
            inner = values.flatten()
        return f"list<{_kind(type_.value_type, inner)}>"
    if pa.types.is_dictionary(type_):
        return _kind(type_.value_type, None)
    if pa.types.is_struct(type_):
        names = {type_.field(number).name for number in range(type_.num_fields)}
        if names != _FILE_FIELDS:
            return STRUCT
        return _sniffed(values) or STRUCT
    if _is_binary(type_):
        return _sniffed(values) or BINARY
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return TEXT
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_) or pa.types.is_floating(type_):
        return NUMBER
    return NULL if pa.types.is_null(type_) else OTHER


def _sniffed(values: pa.Array | None) -> str | None:
    """The kind of the first file in a column, by its bytes, else by its name."""
    for value in values if values is not None else ():
        held = value.as_py()
        data, name = (held.get("bytes"), held.get("path")) if isinstance(held, dict) else (held, None)
        if isinstance(data, bytes) and data:
            return sniff(data[:LOOKED_AT])
        if isinstance(name, str) and name:
            return SUFFIXES.get(name.rpartition(".")[2].lower())
    return None


def _files(value: Any, row: int, cell: Cell, at: int | None = None) -> Any:
    """A cell with what lies there in the place of its bytes; the name of a file beside the dataset stays a text."""
    if isinstance(value, list) and at is None:
        return [_files(one, row, cell, number) for number, one in enumerate(value)]
    data, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(data, bytes):
        return cell(row, at, data, name if isinstance(name, str) else "")
    return name


def _inline(value: Any) -> Any:
    """A value in which structs of a file's bytes and path are its bytes, which are copied, or its path."""
    if isinstance(value, list):
        return [_inline(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == _FILE_FIELDS:
        return value["bytes"] if value["bytes"] is not None else value["path"]
    return {key: _inline(one) for key, one in value.items()}


def _holds_bytes(type_: pa.DataType) -> bool:
    if _is_list(type_):
        return _holds_bytes(type_.value_type)
    if pa.types.is_struct(type_):
        return any(_holds_bytes(type_.field(number).type) for number in range(type_.num_fields))
    return _is_binary(type_)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_binary_view(type_))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_))


def shown(error: BaseException) -> str:
    """The first line of what a library says, cut."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].encode(errors="backslashreplace").decode()
