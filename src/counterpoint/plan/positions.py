"""Positions of a document's rows: in time alone, or in time, height and width.

Text advances all three coordinates together; the rows of an image share its time and spread over its height
and width, those of a clip advance like text; what follows continues after the largest coordinate so far (Wang et al.,
2024, arXiv:2409.12191, section 2.1). The pictures of a video that are merged into one item stand like an image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from counterpoint.plan.samples import Document


@dataclass(frozen=True, slots=True)
class Run:
    """`rows` consecutive rows from `row`; the first stands at `start` along every axis. `columns` None: like text."""

    row: int
    rows: int
    start: int
    columns: int | None


def position_runs(document: Document) -> Iterator[Run]:
    """The runs of a document in order, together all of its rows."""
    row = start = 0
    for item in document.items:
        if item.position > row:
            yield Run(row, item.position - row, start, None)
            start += item.position - row
        yield Run(item.position, item.rows, start, item.columns)
        start += item.rows if item.columns is None else max(item.rows // item.columns, item.columns)
        row = item.position + item.rows
    if document.tokens > row:
        yield Run(row, document.tokens - row, start, None)
