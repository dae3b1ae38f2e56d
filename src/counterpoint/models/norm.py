"""Normalisation of rows; each norm is also a part of a chain, which then hands it the batch."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.kinds.names import NormKind
from counterpoint.models.batch import Batch


@final
class RmsNorm(nn.Module):
    """Root mean square norm over the last dim, accumulated in at least float32 (Zhang and Sennrich, 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, rows: Tensor, _batch: Batch | None = None) -> Tensor:
        return F.rms_norm(rows, self.weight.shape, self.weight, self.eps)


@final
class LayerNorm(nn.Module):
    """Layer norm with weight and bias over the last dim, accumulated in at least float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, rows: Tensor, _batch: Batch | None = None) -> Tensor:
        return F.layer_norm(rows, self.weight.shape, self.weight, self.bias, self.eps)


@final
class Scale(nn.Module):
    """Learned gains on what a sublayer adds, rows (rows, width) -> (rows, width) (Touvron et al., 2021)."""

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
