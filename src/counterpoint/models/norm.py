"""Normalisation of rows; a norm can also be a part of a chain, so its forward accepts the batch."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.kinds.names import NormKind
from counterpoint.models.batch import Batch
from counterpoint.models.seams import Cheap


@final
class RmsNorm(Cheap):
    """Root mean square norm over the last dim, accumulated in at least float32 (Zhang and Sennrich, 2019)."""

    what = "norms"

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, rows: Tensor, _batch: Batch | None = None) -> Tensor:
        return F.rms_norm(rows, self.weight.shape, self.weight, self.eps)


@final
class LayerNorm(Cheap):
    """Layer norm with weight and bias over the last dim, accumulated in at least float32."""

    what = "norms"

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, rows: Tensor, _batch: Batch | None = None) -> Tensor:
        return F.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps)


@final
class Scale(nn.Module):
    """Learned per-channel gains on the output of a sublayer, (rows, width) -> (rows, width) (Touvron et al., 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.weight


def norm_of(kind: NormKind, width: int, eps: float) -> nn.Module:
    """The norm of a kind; `none` changes nothing."""
    match kind:
        case "layer":
            return LayerNorm(width, eps)
        case "rms":
            return RmsNorm(width, eps)
        case "none":
            return nn.Identity()
