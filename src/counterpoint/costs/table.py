"""Measured seconds by one or two sizes, interpolated in logarithms."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import exp, log
from typing import final


@final
@dataclass(frozen=True)
class Axis:
    """One size by which seconds were measured: its name and at least one positive value, in rising order."""

    name: str
    values: tuple[float, ...]

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        return tuple(log(value) for value in self.values)

    def place(self, value: float) -> tuple[int, float, float]:
        """The interval of a value, how far it is along it, and the factor by which it lies beyond the last value.

        A value below the first counts as the first.
        """
        last = len(self.values) - 1
        if value <= self.values[0]:
            return 0, 0.0, 1.0
        if value >= self.values[last]:
            return max(last - 1, 0), 1.0 if last else 0.0, value / self.values[last]
        number = bisect_right(self.values, value) - 1
        low, high = self._logs[number : number + 2]
        return number, (log(value) - low) / (high - low), 1.0


@final
@dataclass(frozen=True)
class Table:
    """Seconds over a grid of one or two axes; the last axis is the fastest, None a size that cannot be.

    Between points the logarithm of the seconds is linear in the logarithms of the sizes. Beyond the last value of an
    axis seconds grow in proportion, below the first they do not fall. `spread` is the distance between the quartiles of
    repeated measurements over their median, 0 where nothing was measured.
    """

    axes: tuple[Axis, ...]
    seconds: tuple[float | None, ...]
    spread: tuple[float, ...] = ()

    @cached_property
    def least(self) -> float:
        """The smallest of the seconds."""
        return min(each for each in self.seconds if each is not None)

    @cached_property
    def _logs(self) -> tuple[float, ...]:
        """Logarithms of the seconds, those that cannot be in proportion to the next one, and none smaller than before.

        What is repeated at random is made to rise: no size costs less than a smaller one.
        """
        shape = [len(axis.values) for axis in self.axes]
        width, last = shape[-1], self.axes[-1].values
        rows = [list(self.seconds[start : start + width]) for start in range(0, len(self.seconds), width)]
        filled: list[list[float]] = []
        for row in rows:
            made: list[float] = []
            following: float | None = None
            for number in reversed(range(width)):
                found = row[number]
                if found is None:
                    assert following is not None, "the last of a row can be"
                    found = following * last[number] / last[number + 1]
                made.append(found)
                following = found
            filled.append(made[::-1])
        for row_of in filled:
            for number in range(1, width):
                row_of[number] = max(row_of[number], row_of[number - 1])
        for before, after in pairwise(filled):
            after[:] = [max(pair) for pair in zip(before, after, strict=True)]
        return tuple(log(each) for row_of in filled for each in row_of)

    def at(self, *sizes: float) -> float:
        """Seconds at one size per axis; nothing of a size of 0 takes no time."""
        if min(sizes) <= 0:
            return 0.0
        places = [axis.place(size) for axis, size in zip(self.axes, sizes, strict=True)]
        total, beyond = 0.0, 1.0
        for _number, _share, factor in places:
            beyond *= factor
        for corner in product((0, 1), repeat=len(places)):
            weight, index = 1.0, 0
            for axis, (number, share, _factor), side in zip(self.axes, places, corner, strict=True):
                weight *= share if side else 1.0 - share
                index = index * len(axis.values) + min(number + side, len(axis.values) - 1)
            if weight:
                total += weight * self._logs[index]
        return exp(total) * beyond


def curve(name: str, points: Sequence[tuple[float, float]]) -> Table:
    """A table over one axis from (size, seconds)."""
    return Table((Axis(name, tuple(size for size, _seconds in points)),), tuple(seconds for _size, seconds in points))
