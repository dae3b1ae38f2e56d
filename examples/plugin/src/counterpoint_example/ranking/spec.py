"""A contrast of items with the targets of all items by rank, as configs know it."""

from random import Random
from typing import Any, Literal

from counterpoint.extend import ItemLoss, NonNegative, Positive, TargetSection


class RankingSection(TargetSection):
    """An item's own target is to be nearer than those of all other items of the global batch, by a margin.

    The mean z of the rows that leave for an item is compared with targets t: the loss is the mean over the others j of
    log(1 + exp(margin + scale * (z.t_j - z.t_own))), a smooth form of the triplet loss (Schroff et al., 2015,
    arXiv:1503.03832).
    """

    kind: Literal["ranking"]
    """The contrast of an item with the targets of all items of the global batch, pair by pair."""
    weight: Positive = 1.0
    """Factor of the loss's mean where it joins backward. No unit."""
    scale: Positive = 0.1
    """Factor of the products of an item and a target. No unit."""
    margin: NonNegative = 0.5
    """By how much the own target is to be nearer. No unit."""


def _drawn(_generator: Random) -> dict[str, Any]:
    return {"targets": "drawn"}


RANKING = ItemLoss(
    section=RankingSection,
    is_pooled=lambda _section: True,
    sees_all=True,
    of_rows="counterpoint_example.ranking.rows:ranking",
    plain="counterpoint_example.ranking.rows:plain",
    drawn=_drawn,
)
