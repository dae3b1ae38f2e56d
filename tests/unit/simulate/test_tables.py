"""The comparison of schedules in the docs is what its scripts print."""

from fractions import Fraction
from pathlib import Path

import filling
from schedules import tables

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs" / "schedules.md"


def test_the_docs_compare_schedules_as_they_are() -> None:
    assert tables(8) in DOCUMENT.read_text(encoding="utf-8"), "copy the output of benchmarks/schedules.py into the docs"


def test_the_docs_compare_filling_as_it_is() -> None:
    """The whole table takes a minute, so it is kept in a file, of which a few rows are computed again."""
    rows = filling.read(ROOT / "benchmarks" / "results" / "filling_clock.json")
    assert filling.tables(rows) in DOCUMENT.read_text(encoding="utf-8"), "run benchmarks/filling.py again"
    third = Fraction(1, 3)
    for again in (filling.row(4, third, 8), filling.row(4, third, 8, 5), filling.row(8, third, 4)):
        assert again in rows
    for row in rows:
        others = [time for time in (row.first, row.just_in_time, row.fill) if time is not None]
        assert row.bound <= row.filled <= min(others)
        if row.pp == 4 and row.share == "1/3" and row.buffer is None:
            assert row.filled <= 1.1 * row.bound
