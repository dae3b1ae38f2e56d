"""A CSV table with a row for each record and a column for each name."""

import csv
from pathlib import Path

from counterpoint.recorders.csv.spec import CsvSection
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.numbers import numbers_of

TABLE_FILE = "metrics.csv"
_STEP = "step"


class Table:
    """Appends rows; a name that appears later becomes the last column, for which the file is rewritten.

    A resumed run appends, even for steps that it repeats: the last row of a step counts.
    """

    def __init__(self, _section: CsvSection, recording: Recording) -> None:
        self._path = recording.folder / TABLE_FILE
        rows = _rows(self._path) if recording.goes_on else []
        self._columns = rows[0] if rows else [_STEP]
        # An incomplete last line, left by a crash, is dropped.
        _write(self._path, [self._columns, *rows[1:]])

    def record(self, record: Record) -> None:
        numbers = numbers_of(record)
        if not numbers:
            return
        later = [name for name in numbers if name not in self._columns]
        if later:
            _write(self._path, [[*self._columns, *later], *_rows(self._path)[1:]])
            self._columns = [*self._columns, *later]
        cells = {_STEP: record.step, **numbers}
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([cells.get(name, "") for name in self._columns])

    def close(self, is_finished: bool) -> None:
        """Does nothing: the file is closed after each row."""


def _rows(path: Path) -> list[list[str]]:
    """The complete rows of a table, header first; empty without a table."""
    try:
        with path.open(newline="") as file:
            text = file.read()
    except FileNotFoundError:
        return []
    whole = text[: text.rfind("\n") + 1]
    return list(csv.reader(whole.splitlines(keepends=True)))


def _write(path: Path, rows: list[list[str]]) -> None:
    """Replace a table; shorter rows are padded with empty cells."""
    width = len(rows[0])
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as file:
        csv.writer(file).writerows([*row, *[""] * (width - len(row))] for row in rows)
    partial.replace(path)
