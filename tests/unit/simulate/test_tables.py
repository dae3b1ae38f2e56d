"""The comparison of schedules in the docs is what its script prints."""

from pathlib import Path

from schedules import tables

DOCUMENT = Path(__file__).parents[3] / "docs" / "schedules.md"


def test_the_docs_compare_schedules_as_they_are() -> None:
    assert tables(8) in DOCUMENT.read_text(encoding="utf-8"), "copy the output of benchmarks/schedules.py into the docs"
