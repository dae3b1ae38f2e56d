"""Costs of documents and items by their rows alone, as plain integers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Which rows of its document, or item, a row sees: all of them, or with `causal` those up to its own.

    With `causal` a `window` limits them to the last `window` rows. Without, rows are cut into blocks of `window` rows
    and each sees all rows of its block.
    """

    causal: bool = False
    window: int | None = None

    def pairs(self, rows: int) -> int:
        """Query-key pairs in a document of `rows` rows; blocks count as full ones."""
        reach = rows if self.window is None else self.window
        if not self.causal:
            return rows * reach
        reach = min(reach, rows)
        return rows * reach - reach * (reach - 1) // 2


ALL = Mask()
"""Every row sees every other."""

CAUSAL = Mask(causal=True)
"""A row sees those up to its own."""

PairFlops = tuple[tuple[Mask, int], ...]
"""FLOPs of one visible query-key pair, by mask; each mask once."""


@final
class Load:
    """Documents or items by their lengths in rows: `count` of them, and `rows` in all."""

    def __init__(self, lengths: Iterable[int]) -> None:
        self._lengths = tuple(lengths)
        self._pairs: dict[Mask, int] = {}
        self.count = len(self._lengths)
        self.rows = sum(self._lengths)

    def pairs(self, mask: Mask) -> int:
        """Number of query-key pairs that a mask lets through."""
        if mask not in self._pairs:
            self._pairs[mask] = sum(map(mask.pairs, self._lengths))
        return self._pairs[mask]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """FLOPs per row, per query-key pair by mask, and once per item.

    The module computes `prefix` rows of its own before the rows of each item.
    """

    per_row: int
    per_pair: PairFlops = ()
    prefix: int = 0
    per_item: int = 0

    def of(self, rows: int) -> int:
        """The cost of a document, or item, of `rows` input rows."""
        computed = rows + self.prefix
        cost = self.per_item + self.per_row * computed
        for mask, flops in self.per_pair:
            cost += flops * mask.pairs(computed)
        return cost

    def of_each(self, lengths: Sequence[int]) -> list[int]:
        """The cost of each of these numbers of rows, computed once for each that occurs."""
        return CostTable(self).of_each(lengths)


@final
class CostTable:
    """Costs by numbers of rows, each computed when it is first asked for."""

    def __init__(self, cost: Cost) -> None:
        self._cost = cost
        self._known: dict[int, int] = {}

    def of_each(self, lengths: Sequence[int]) -> list[int]:
        """The cost of each of these numbers of rows."""
        known = self._known
        for length in set(lengths):
            if length not in known:
                known[length] = self._cost.of(length)
        return [known[length] for length in lengths]


ROWS = Cost(per_row=1)
"""A cost that counts rows."""


def added(groups: Iterable[PairFlops]) -> PairFlops:
    """The sums of all groups, mask by mask."""
    sums: dict[Mask, int] = {}
    for mask, flops in (pair for group in groups for pair in group):
        sums[mask] = sums.get(mask, 0) + flops
    return tuple(sums.items())
