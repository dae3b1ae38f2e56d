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
    width, count = weight.shape[1], rows.shape[0]
    mixed = rows * weight[:, -1] + bias
    for back in range(1, min(width, count)):
        # Shifted and not cut: a compiler fuses the sums over rows in backward only if all have as many.
        same = document == F.pad(document[:-back], (back, 0), value=-1)
        earlier = F.pad(rows[:-back], (0, 0, back, 0)).where(same[:, None], 0)
        mixed = mixed + earlier * weight[:, width - 1 - back]
    return F.silu(mixed)
