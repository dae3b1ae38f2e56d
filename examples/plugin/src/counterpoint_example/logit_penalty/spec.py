"""The square of the label's score, as configs know it: it keeps scores near 0, wherever their normaliser is."""

from typing import Literal

from counterpoint.extend import LossSection, Positive, ScoreLoss


class LogitPenaltySection(LossSection):
    """The square of the score of each row's label."""

    kind: Literal["logit_penalty"]
    """The squared score of the label, of a decoder's rows."""
    weight: Positive = 1e-4
    """Factor of the loss's mean where it joins backward. No unit."""


LOGIT_PENALTY = ScoreLoss(
    section=LogitPenaltySection,
    term="counterpoint_example.logit_penalty.term:term",
    plain="counterpoint_example.logit_penalty.term:plain",
)
