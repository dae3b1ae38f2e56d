"""Measured seconds by one or two sizes, interpolated in logarithms."""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
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
    def _logs(self) -> tuple[float, ...]:
        """Logarithms of the seconds, made to rise along both axes: what is measured repeatedly may fall by chance."""
        sizes = self.axes[-1].values
        starts = range(0, len(self.seconds), len(sizes))
        rows = [_risen(_filled(self.seconds[start : start + len(sizes)], sizes)) for start in starts]
        for before, after in pairwise(rows):
            after[:] = [max(pair) for pair in zip(before, after, strict=True)]
        return tuple(log(each) for row in rows for each in row)

    def at(self, *sizes: float) -> float:
        """Seconds at one size per axis; nothing of a size of 0 takes no time."""
        known = self._known
        if sizes not in known:
            known[sizes] = self._between(sizes)
        return known[sizes]

    @cached_property
    def _known(self) -> dict[tuple[float, ...], float]:
        """Seconds of sizes that were asked for: models have few kinds of layers, and plans many of each."""
        return {}

    def _between(self, sizes: tuple[float, ...]) -> float:
        if min(sizes) <= 0:
            return 0.0
        corners, beyond = [(0, 1.0)], 1.0
        for axis, size in zip(self.axes, sizes, strict=True):
            number, share, factor = axis.place(size)
            beyond *= factor
            width = len(axis.values)
            low = [(index * width + number, weight * (1.0 - share)) for index, weight in corners]
            high = [(index * width + number + 1, weight * share) for index, weight in corners]
            corners = low + high if share else low
        return exp(sum(weight * self._logs[index] for index, weight in corners)) * beyond


def _filled(seconds: tuple[float | None, ...], sizes: tuple[float, ...]) -> list[float]:
    """Seconds of which those of sizes that cannot be, which come first, are in proportion to the first that can."""
    first, known = next((size, found) for size, found in zip(sizes, seconds, strict=True) if found is not None)
    return [known * size / first if found is None else found for size, found in zip(sizes, seconds, strict=True)]


def _risen(seconds: list[float]) -> list[float]:
    """Each at least as large as the one before."""
    return list(accumulate(seconds, max))
