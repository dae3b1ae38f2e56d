"""Declared distributions of non-negative integers."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from counterpoint.section.section import Index, Positive, Section

if TYPE_CHECKING:
    from numpy.random import Generator


class Constant(Section):
    """Always `value`."""

    kind: Literal["constant"] = "constant"
    """The distribution."""
    value: Index
    """The value of every draw. Unit: that of the key."""

    @property
    def low(self) -> int:
        """The smallest value that can be drawn."""
        return self.value

    @property
    def high(self) -> int:
        """The largest value that can be drawn."""
        return self.value

    def sample(self, _generator: "Generator") -> int:
        """One draw."""
        return self.value


class Uniform(Section):
    """A uniformly distributed integer from `low` to `high`, both included."""

    kind: Literal["uniform"] = "uniform"
    """The distribution."""
    low: Index
    """Smallest value. Unit: that of the key."""
    high: Index
    """Largest value. Unit: that of the key."""

    def sample(self, generator: "Generator") -> int:
        """One draw."""
        return int(generator.integers(self.low, self.high, endpoint=True))


class Lognormal(Section):
    """exp(N(log(median), sigma)), rounded and clipped to `low` ... `high`."""

    kind: Literal["lognormal"] = "lognormal"
    """The distribution."""
    median: Positive
    """Median before rounding and clipping. Unit: that of the key."""
    sigma: Positive
    """Standard deviation of the logarithm. No unit."""
    low: Index
    """Smallest value; smaller draws become it. Unit: that of the key."""
    high: Index
    """Largest value; larger draws become it. Unit: that of the key."""

    def sample(self, generator: "Generator") -> int:
        """One draw."""
        drawn = round(self.median * math.exp(self.sigma * generator.standard_normal()))
        return min(max(drawn, self.low), self.high)


Distribution = Annotated[Constant | Uniform | Lognormal, Field(discriminator="kind")]
