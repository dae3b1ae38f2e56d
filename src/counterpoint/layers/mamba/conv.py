"""A causal depthwise convolution over the rows of each document."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvWeights(nn.Module):
    """A filter of `width` rows and a bias for each channel."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, width))
        self.bias = nn.Parameter(torch.empty(channels))


def causal_conv(rows: Tensor, weight: Tensor, bias: Tensor, document: Tensor) -> Tensor:
    """silu(conv(rows)): each row is combined with the `width - 1` rows before it in its own document.

    rows (rows, channels), weight (channels, width) whose last column is for the row itself, bias (channels,), document
    int64 (rows,) -> (rows, channels).
    """
    width = weight.shape[1]
    mixed = rows * weight[:, -1] + bias
    for back in range(1, min(width, rows.shape[0])):
        same = (document[back:] == document[:-back])[:, None]
        earlier = (rows[:-back] * weight[:, width - 1 - back]).where(same, 0)
        mixed = mixed + F.pad(earlier, (0, 0, back, 0))
    return F.silu(mixed)
