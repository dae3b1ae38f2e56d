"""The contrast of items with targets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.losses.contrastive.spec import ContrastiveSection

SHORTEST = 1e-6
"""Length up to which a vector has no direction: its cosines are 0, without a gradient that its length would blow up."""


def contrast(section: ContrastiveSection, rows: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """The sum of the loss over items' means (n, width) among targets (m, width); `own` int64 (n,) is the index of each
    item's own target."""
    scores = F.linear(_directions(rows), _directions(targets)) * section.scale + section.bias
    if section.form == "softmax":
        return F.cross_entropy(scores, own, reduction="sum")
    is_own = torch.arange(targets.shape[0], device=own.device) == own[:, None]
    return F.softplus(torch.where(is_own, -scores, scores)).sum()


def _directions(vectors: Tensor) -> Tensor:
    """Vectors (n, width) of length 1, or of zeros where there is no direction."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    is_long = lengths > SHORTEST
    directions: Tensor = vectors / lengths.where(is_long, 1.0) * is_long
    return directions
