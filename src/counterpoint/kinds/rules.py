"""What becomes of parameters, by patterns of their names: under tensor parallelism, and at the start."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Role = Literal["outputs", "groups", "inputs", "words", "rows", "share", "expert", "whole"]
"""What becomes of a parameter: dim 0 is cut (`outputs`), or cut as the groups of the mix beside its linear, of which
several ranks may hold the same (`groups`), dim 1 is cut (`inputs`), dim 0 is cut and padded (`words`), it acts on
residual rows (`rows`), or in any mode on a rank's share of rows or heads (`share`), the expert view cuts it (`expert`),
or every rank does the same with it (`whole`)."""


@dataclass(frozen=True, slots=True)
class TensorRule:
    """The role of the parameters whose names fit a pattern."""

    pattern: str
    role: Role


@dataclass(frozen=True, slots=True)
class Initial:
    """Normal around `mean`; `residual` divides `std` by the root of the number of residual sums.

    With `of_uniform` an element is that function of a number drawn evenly between 0 and 1 instead, with `of_place` that
    of its row, its column and the number of columns.
    """

    pattern: str
    mean: float = 0.0
    std: float = 0.0
    residual: bool = False
    of_uniform: Callable[[float], float] | None = None
    of_place: Callable[[int, int, int], float] | None = None

    def std_at(self, residual_sums: int) -> float:
        """The standard deviation in a model that adds `residual_sums` sublayers to its rows."""
        return self.std / math.sqrt(residual_sums) if self.residual else self.std


ON_ROWS = (TensorRule("*norm.*", "rows"), TensorRule("*_scale.weight", "rows"))
"""Roles that norms and scales have in all models, unless a kind says otherwise before."""

PLAIN = (
    Initial("*.bias"),
    Initial("*norm.weight", mean=1.0),
    Initial("*_scale.weight", mean=1.0),
    Initial("*layers.*.o.weight", std=0.02, residual=True),
    Initial("*layers.*.down.weight", std=0.02, residual=True),
    Initial("*", std=0.02),
)
"""What parameters begin with where no kind says otherwise before."""
