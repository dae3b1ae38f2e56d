"""What a plan knows of a sample before any payload is read: row counts and positions."""

from collections.abc import Iterable
from dataclasses import dataclass

NO_TOKEN = -1
"""Id of a row without a token: a placeholder, which features fill, or padding."""

NO_LABEL = -100
"""Label of a row without a loss."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image or clip of a document.

    `position` is the first of the `rows` consecutive document rows that its features fill; `rows_in` rows
    (patches, windows of frames) enter the source module `module` and `rows` rows leave it, which are the cells, row by
    row, of a grid with `columns` columns, or follow one another in time like text if that is None. Where learned rows
    leave in the place of the item's own the grid is that of its own.
    """

    module: str
    position: int
    rows_in: int
    rows: int
    columns: int | None = 1


@dataclass(frozen=True, slots=True)
class Document:
    """One sample: `tokens` rows of the language sequence (item rows included), `loss_tokens` of them with a loss.

    `(source, index)` is enough to load its payload. `mtp_loss_tokens` are the rows with a loss at each depth of
    multi-token prediction, whose target is a token further ahead.
    """

    source: int
    index: int
    tokens: int
    loss_tokens: int
    items: tuple[Item, ...] = ()
    mtp_loss_tokens: tuple[int, ...] = ()


def text_rows(items: Iterable[Item], rows: int) -> int:
    """Number of a document's first `rows` rows that no item fills; the document has at least `rows`."""
    return rows - sum(min(max(rows - item.position, 0), item.rows) for item in items)


Pack = tuple[Document, ...]
"""Documents laid end to end in one sequence of at most the token budget."""
