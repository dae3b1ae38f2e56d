"""The mapping of `--map`: which column of a dataset is which key of a shape."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import yaml

from counterpoint.data.prepare.shapes import SHAPES
from counterpoint.data.prepare.shapes.interleaved import IMAGE_PLACE
from counterpoint.data.prepare.shapes.shape import TEXT, Columns
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError
from counterpoint.section.problem import nearest

IGNORE = "ignore"
_LITERAL = (IMAGE_PLACE,)
"""Keys that take a value instead of a column."""
_FIELD = re.compile(r"\{([^{}]*)\}")
_FILES = (".yaml", ".yml", ".json")


@final
@dataclass(frozen=True)
class ColumnMap:
    """Keys of shapes with the columns that they stand for, or with texts that name columns in braces; and columns that
    are left out."""

    keys: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Sequence[str]) -> "ColumnMap":
        """From values of `--map`, each `key=column` or a YAML file of such keys; raises DataError."""
        pairs = [pair for text in given for pair in _pairs(text)]
        keys = tuple((key, column) for key, column in pairs if key != IGNORE)
        known = {key: None for shape in SHAPES.values() for key in shape.keys}
        for number, (key, _column) in enumerate(keys):
            if key not in known:
                alike = nearest(key, known)
                hint = f"did you mean {alike}?" if alike else f"keys are {', '.join(known)}, and {IGNORE}."
                raise DataError(f"--map {show(key)}: no shape has such a key; {hint}")
            if key in dict(keys[:number]):
                raise DataError(f"--map {key}: is given twice, expected one column for a key; leave one out.")
        return cls(keys, tuple(column for key, column in pairs if key == IGNORE))

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it names as sources of keys."""
        return tuple(dict.fromkeys(name for key, source in self.keys for name in _sources(key, source)))

    def columns(self, columns: Columns) -> Columns:
        """The columns after the mapping; raises DataError, with the nearest name, for one that is not there."""
        for name in (*self.reads, *self.ignored):
            if name not in columns:
                alike = nearest(name, columns)
                hint = f"did you mean {alike}?" if alike else f"columns are {', '.join(columns)}."
                raise DataError(f"--map: there is no column '{name}'; {hint}")
        kinds = {key: TEXT if _is_text(key, source) else columns[source] for key, source in self.keys}
        return {name: kind for name, kind in columns.items() if name not in self._gone} | kinds

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row after the mapping; raises DataError for a value that is no part of a text."""
        if not self.keys and not self.ignored:
            return dict(row)
        values = {key: self._value(key, source, row) for key, source in self.keys}
        return {name: value for name, value in row.items() if name not in self._gone} | values

    @property
    def _gone(self) -> frozenset[str]:
        """Columns that have another name, or none, after the mapping."""
        return frozenset((*self.ignored, *(source for key, source in self.keys if not _is_text(key, source))))

    def _value(self, key: str, source: str, row: Mapping[str, Any]) -> Any:
        if key in _LITERAL:
            return source
        if not _is_text(key, source):
            return row.get(source)
        return _FIELD.sub(lambda field: _said(row.get(field[1]), field[1]), source)


def _pairs(text: str) -> list[tuple[str, str]]:
    key, equals, column = text.partition("=")
    if equals and key.strip() and column:
        return [(key.strip(), column)]
    if not equals and Path(text).suffix in _FILES:
        return _read(Path(text))
    raise DataError(f"--map {show(text)}: expected key=column, or a YAML file of such keys.")


def _read(file: Path) -> list[tuple[str, str]]:
    try:
        values = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise DataError(f"--map {file}: cannot be read ({error.strerror}); correct the name.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"--map {file}: is no YAML ({show(str(error))}); correct it.") from None
    pairs = []
    for key, column in values.items() if isinstance(values, dict) else [(None, values)]:
        columns = column if isinstance(column, list) and key == IGNORE else [column]
        if not isinstance(key, str) or not columns or not all(isinstance(name, str) for name in columns):
            raise DataError(f"--map {file}: expected keys with the name of a column each, got {show(values)}.")
        pairs += [(key, name) for name in columns]
    return pairs


def _is_text(key: str, source: str) -> bool:
    """Whether a source is a text, with or without columns in braces, and not the name of a column."""
    return key in _LITERAL or _FIELD.search(source) is not None


def _sources(key: str, source: str) -> list[str]:
    if key in _LITERAL:
        return []
    return _FIELD.findall(source) if _is_text(key, source) else [source]


def _said(value: object, column: str) -> str:
    """A value inside of a text: names of a list are joined by commas."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"--map: column '{column}' is {show(value)}, expected a text, a number or a list of texts.")
