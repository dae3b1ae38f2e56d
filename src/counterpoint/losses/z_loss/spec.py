"""The z-loss as configs know it."""

from typing import Literal

from counterpoint.losses.kind import LossSection, ScoreLoss
from counterpoint.section.section import Positive


class ZLossSection(LossSection):
    """log(Z)^2 of each row with a label, Z the sum of the exponentials of its scores: it keeps log(Z) near 0
    (Chowdhery et al., 2022, arXiv:2204.02311, section 5)."""

    kind: Literal["z_loss"]
    """The squared logarithm of the softmax's normaliser, of a decoder's scores."""
    weight: Positive = 1e-4
    """Factor of the loss's mean where it joins backward; the default is PaLM's. No unit."""


Z_LOSS = ScoreLoss(
    section=ZLossSection,
    term="counterpoint.losses.z_loss.term:term",
    plain="counterpoint.verify.losses:plain_z_loss",
)
