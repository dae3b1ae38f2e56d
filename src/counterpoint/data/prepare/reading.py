"""How rows become conversations: the condition, the mapping, and the shape of each file."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from counterpoint.data.prepare.mapping import ColumnMap
from counterpoint.data.prepare.readers.json_columns import ROWS_LOOKED_AT, json_kind
from counterpoint.data.prepare.shapes import SHAPES, find_shape
from counterpoint.data.prepare.shapes.shape import Columns, Find, Parsed, Shape, show_columns
from counterpoint.data.prepare.where import Where
from counterpoint.errors import DataError

DEFAULT = "turns"
"""The shape of files whose rows are objects of any keys, and of those without a row that can be read."""


@final
@dataclass(frozen=True)
class Reading:
    """What a user chose to read of a dataset; it can be pickled."""

    where: Where | None = None
    mapping: ColumnMap = field(default_factory=ColumnMap)

    def shape(self, columns: Columns, *, is_declared: bool) -> "FileShape":
        """How the rows of a file with some columns are read; raises DataError where no shape fits.

        Columns that are not `is_declared` were seen in the first rows: others may come, and each row is judged alone.
        """
        if not columns and not is_declared:
            return FileShape(DEFAULT)
        if self.where is not None:
            self.where.check(columns, "" if is_declared else f" in the first {ROWS_LOOKED_AT} rows")
        mapped = self.mapping.columns(columns)
        name = find_shape(mapped, is_declared=is_declared)
        keys = SHAPES[name].keys
        also = (*self.mapping.reads, *(self.where.columns if self.where is not None else ()))
        unread = tuple(column for column in mapped if column not in keys and column not in also)
        if not is_declared:
            return FileShape(name)
        own = {key for key, _source in self.mapping.keys}
        read = tuple(name for name in columns if name in also or (name in keys and name in mapped and name not in own))
        return FileShape(name, read, unread)

    def parse(self, shape: str, values: object, find: Find) -> Parsed | None:
        """The conversation of a row, or None if the condition leaves it out; raises DataError for a bad row."""
        if isinstance(values, DataError):
            raise values
        if not isinstance(values, Mapping):
            return SHAPES[shape].parse(values, find)
        also = self.mapping.reads
        if self.where is not None:
            if not self.where.holds(values):
                return None
            also += self.where.columns
        mapped = [key for key, _source in self.mapping.keys]
        row, notes = SHAPES[shape].choose(self.mapping.row(values), mapped, self.mapping.reads)
        keys = SHAPES[shape].keys
        unread = () if shape == DEFAULT else _unread(SHAPES[shape], row, also)
        parsed = SHAPES[shape].parse({key: row[key] for key in row if key in keys or key not in also}, find)
        return replace(parsed, labels=(*parsed.labels, *unread), notes=(*parsed.notes, *notes))


def _unread(shape: Shape, row: Mapping[str, Any], also: Collection[str]) -> tuple[str, ...]:
    """The keys of a row that nothing reads, also of those that the first rows lack; raises DataError for files and
    weights."""
    kinds = {
        key: json_kind(value)
        for key, value in row.items()
        if key not in shape.keys and key not in also and value is not None
    }
    lost = shape.unread(kinds)
    if lost:
        raise DataError(
            f"nothing would read {show_columns({key: kinds[key] for key in lost})} of the record, which is taken as "
            f"{shape.described}; correct or remove the record."
        )
    return tuple(kinds)


@final
@dataclass(frozen=True, slots=True)
class FileShape:
    """The shape of a file: its name in SHAPES, the columns to read (none: all that rows have), and of declared ones
    those that nothing reads."""

    name: str
    columns: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
