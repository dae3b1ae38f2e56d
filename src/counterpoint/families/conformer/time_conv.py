"""A centred depthwise convolution over the rows of each item."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.seams import Mix, Trade
from counterpoint.models.segments import Segments


@final
class TimeFilter(nn.Module):
    """A filter of `width` rows for each channel, with an optional bias."""

    def __init__(self, channels: int, width: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, width))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(channels)) if bias else None)


@final
class TimeMix(Mix[Segments]):
    """The convolution of rows (rows, channels) with a weight (channels, width) of odd width -> (rows, channels)."""

    trades = (Trade.HEADS, Trade.WEIGHTS)
    traded = "channels"

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments) -> Tensor:
        """Items are padded with zeros at both ends; padding rows give zeros. Without any item both inputs get zero
        gradients."""
        rows, weight = inputs
        if not segments.buckets:
            return rows * 0 + weight.sum() * 0
        mixed = rows.new_zeros(rows.shape)[:, None]
        for bucket in segments.buckets:
            padded = bucket.pad(rows[:, None])[:, 0].transpose(1, 2)
            convolved = F.conv1d(padded, weight[:, None], padding=weight.shape[1] // 2, groups=weight.shape[0])
            mixed = bucket.unpad_into(mixed, convolved.transpose(1, 2)[:, None])
        return mixed[:, 0]
