"""The fastest that a machine does anything of a kind: no size of it takes less time."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf, prod
from typing import final

from counterpoint.costs.hardware import Hardware
from counterpoint.costs.table import Table
from counterpoint.simulate.operations import Core, Operation, Product, Traffic


@final
@dataclass(frozen=True)
class Rates:
    """Best rates of a machine for one dtype.

    Between the points of a table the logarithms of seconds are linear in those of sizes, and so are those of rates:
    none is above that of the best point. Beyond the last point seconds grow in proportion, before the first they do not
    fall.
    """

    hardware: Hardware
    dtype: str

    def seconds(self, operations: Sequence[Operation]) -> float:
        """What operations take at least, however they are cut over ranks; exchanges may take nothing."""
        return sum(map(self._seconds, operations))

    def _seconds(self, one: Operation) -> float:
        match one:
            case Product():
                rate = self._grouped if one.groups > 1 else self._product
                return one.share * one.rows * one.inner * one.columns / rate
            case Core(state=0):
                return one.pairs * one.heads * one.width / self._attention(backward=one.backward)
            case Core():
                return one.rows * one.heads * one.width * one.state / self._scan(backward=one.backward)
            case Traffic():
                return one.size_bytes / _best(self.hardware.memory)
            case _:
                return 0.0

    @cached_property
    def _product(self) -> float:
        return _best(self.hardware.products.get(self.dtype))

    @cached_property
    def _grouped(self) -> float:
        # With a single expert on a rank its product is a plain one.
        return max(_best(self.hardware.grouped.get(self.dtype)), self._product)

    def _attention(self, *, backward: bool) -> float:
        known = self.hardware.attentions.get(self.dtype)
        ways = [] if known is None else [way for way in (known.packed, known.even) if way is not None]
        return max((_best(way.backward if backward else way.forward) for way in ways), default=inf)

    def _scan(self, *, backward: bool) -> float:
        known = self.hardware.scans.get(self.dtype)
        return _best(None if known is None else known.backward if backward else known.forward)


def _best(table: Table | None) -> float:
    """The largest product of sizes per second in a table; infinite without one."""
    if table is None:
        return inf
    points = zip(product(*(axis.values for axis in table.axes)), table.seconds, strict=True)
    return max(prod(sizes) / seconds for sizes, seconds in points if seconds is not None)
