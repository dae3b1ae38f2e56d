"""Regression as configs know it."""

from random import Random
from typing import Any, Literal

from counterpoint.losses.kind import ItemLoss, TargetSection
from counterpoint.section.section import Positive


class RegressionSection(TargetSection):
    """The mean squared difference of each row that leaves for an item, or of their mean, from a target that is given,
    column by column."""

    kind: Literal["regression"]
    """The mean squared difference of rows from targets."""
    weight: Positive = 1.0
    """Factor of the loss's mean where it joins backward; metrics show the mean without it. No unit."""
    of: Literal["rows", "items"] = "rows"
    """What has a target: each row that leaves for an item, or the mean of the rows of each item."""


def _is_pooled(section: RegressionSection) -> bool:
    return section.of == "items"


def _drawn(generator: Random) -> dict[str, Any]:
    return {"targets": "drawn", "of": generator.choice(["rows", "items"])}


REGRESSION = ItemLoss(
    section=RegressionSection,
    is_pooled=_is_pooled,
    of_rows="counterpoint.losses.regression.rows:squared_difference",
    plain="counterpoint.verify.losses:plain_regression",
    drawn=_drawn,
)
