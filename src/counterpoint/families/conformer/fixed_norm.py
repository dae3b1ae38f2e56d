"""Batch normalisation with fixed statistics."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.seams import OwnChannels


@final
class FixedBatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias on rows (rows, channels) (Ioffe and Szegedy, 2015).

    Mean and variance are constants, also in training, since the statistics of a batch would depend on the layout. Every
    rank stores them for all channels; `own` selects this process's channels. Weight and bias are trained.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.empty(channels))
        self.register_buffer("variance", torch.empty(channels))
        self.eps = eps
        self.own: nn.Module = OwnChannels()

    def forward(self, rows: Tensor) -> Tensor:
        normed = (rows - self.own(self.mean)) * (self.own(self.variance) + self.eps).rsqrt()
        out: Tensor = normed.to(rows.dtype) * self.weight + self.bias
        return out
