"""The contrastive loss as configs know it."""

from random import Random
from typing import Any, Literal

from counterpoint.losses.kind import ItemLoss, TargetSection
from counterpoint.section.section import Positive


class ContrastiveSection(TargetSection):
    """An item's own target against those of all other items of the global batch that pass through the module.

    The mean z of the rows that leave for an item is compared with given targets t, such as embeddings of its caption
    that were computed beforehand: s_ij = scale * cos(z_i, t_j) + bias. Since the other side is locked (Zhai et al.,
    2022, arXiv:2111.07991), an item's loss depends on its own rows and on data alone, in whatever microbatch and on
    whatever rank other items are: pairs are those of the whole global batch, without an exchange of rows. What is no
    longer than 1e-6 has no direction: its cosines are 0.

    `sigmoid`: the sum over j of log(1 + exp(-y_ij s_ij)), y_ij = 1 for an item's own target and -1 for others (SigLIP;
    Zhai et al., 2023, arXiv:2303.15343). `softmax`: -log of the share of the own target in sum_j exp(s_ij) (InfoNCE,
    the half of CLIP's loss that goes from items to targets; Radford et al., 2021, arXiv:2103.00020).
    """

    kind: Literal["contrastive"]
    """An item's own target against those of all other items of the global batch."""
    weight: Positive = 1.0
    """Factor of the loss's mean where it joins backward; metrics show the mean without it. No unit."""
    form: Literal["sigmoid", "softmax"] = "sigmoid"
    """`sigmoid`: each pair by itself (SigLIP); `softmax`: the own target among all (InfoNCE)."""
    scale: Positive = 10.0
    """Factor of the cosine of an item and a target, the reciprocal of a temperature. No unit."""
    bias: float = -10.0
    """What is added to each score; `softmax` does not depend on it. No unit."""


def _is_pooled(_section: ContrastiveSection) -> bool:
    return True


def _drawn(generator: Random) -> dict[str, Any]:
    return {"targets": "drawn", "form": generator.choice(["sigmoid", "softmax"]), "scale": 3.0, "bias": -1.0}


CONTRASTIVE = ItemLoss(
    section=ContrastiveSection,
    is_pooled=_is_pooled,
    sees_all=True,
    of_rows="counterpoint.losses.contrastive.rows:contrast",
    plain="counterpoint.verify.losses:plain_contrast",
    drawn=_drawn,
)
