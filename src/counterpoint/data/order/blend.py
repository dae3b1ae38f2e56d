"""The source of the n-th draw of a blend, exact and without iterating over the draws before it."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Ints

LONGEST_CYCLE = 1_000_000
LONGEST_EPOCH = 20_000_000
"""Draws of several sources in a cycle of their epochs, for which a table of 16 bytes a draw is kept."""


def integer_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """The smallest integers in the proportion of decimal weights.

    Raises DataError if a weight is not positive or the integers add up to more than LONGEST_CYCLE.
    """
    for number, weight in enumerate(weights):
        if not (math.isfinite(weight) and weight > 0):
            raise DataError(
                f"dataset {number}: weight {weight} is not a positive number; correct it or remove the entry."
            )
    # str keeps what the user wrote: 0.1 is a tenth here, not the nearest binary fraction.
    exact = [Fraction(str(weight)) for weight in weights]
    scale = math.lcm(*(weight.denominator for weight in exact))
    scaled = [int(weight * scale) for weight in exact]
    divisor = math.gcd(*scaled)
    result = tuple(weight // divisor for weight in scaled)
    if sum(result) > LONGEST_CYCLE:
        raise DataError(
            f"dataset weights {list(weights)} need a cycle of {sum(result)} draws, at most {LONGEST_CYCLE} "
            "are supported; round them to fewer digits."
        )
    return result


def whole_epochs(counts: Sequence[int]) -> tuple[int, ...]:
    """The smallest weights with which all sources, of so many documents each, end an epoch together.

    Raises DataError if they add up to more than LONGEST_EPOCH.
    """
    divisor = math.gcd(*counts)
    weights = tuple(count // divisor for count in counts)
    if sum(weights) > LONGEST_EPOCH:
        raise DataError(
            f"data.epochs: sources of {list(counts)} documents take {sum(weights):,} turns in an epoch, expected at "
            f"most {LONGEST_EPOCH:,}; round their numbers with `take`, or set weights instead of data.epochs."
        )
    return weights


class Blend:
    """Draws in cycles of sum(weights), in which source s occurs exactly weights[s] times, evenly spread."""

    def __init__(self, weights: tuple[int, ...]) -> None:
        self._weights = np.array(weights, dtype=np.int64)
        source = np.repeat(np.arange(len(weights)), weights)
        turn = np.concatenate([np.arange(weight) for weight in weights])
        # Midpoints of equal parts of the cycle; two that are equal as fractions are equal as floats.
        time = (2 * turn + 1) / self._weights[source]
        order = np.lexsort((source, time))
        self._source, self._turn = source[order], turn[order]

    def draw(self, numbers: Ints) -> tuple[Ints, Ints]:
        """The source of each draw number (n,), and how many draws of that source came before it."""
        cycle, place = np.divmod(numbers, len(self._source))
        source = self._source[place]
        return source, cycle * self._weights[source] + self._turn[place]
