"""What a document or an item costs by its rows alone, as plain integers."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """FLOPs of `per_row` and of `per_pair`, a query with a key that it sees; in a `causal` model those up to its own.

    Before the rows of each item the module computes `prefix` more.
    """

    per_row: int
    per_pair: int = 0
    causal: bool = False
    prefix: int = 0

    def of(self, rows: int) -> int:
        """The cost of a document, or item, of `rows` input rows."""
        computed = rows + self.prefix
        return self.per_row * computed + self.per_pair * pairs(computed, causal=self.causal)


ROWS = Cost(per_row=1)
"""What counts rows."""


def pairs(rows: int, *, causal: bool) -> int:
    """Query-key pairs in a document of `rows` rows."""
    return rows * (rows + 1) // 2 if causal else rows * rows
