"""The contrast of items with targets."""

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint.losses.contrastive.spec import ContrastiveSection


def contrast(section: ContrastiveSection, rows: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """The sum over items' means (n, width) of the loss among targets (m, width), of which `own` int64 (n,) are
    theirs."""
    scores = F.linear(F.normalize(rows, dim=1), F.normalize(targets, dim=1)) * section.scale + section.bias
    if section.form == "softmax":
        return F.cross_entropy(scores, own, reduction="sum")
    is_own = torch.arange(targets.shape[0], device=own.device) == own[:, None]
    return F.softplus(torch.where(is_own, -scores, scores)).sum()
