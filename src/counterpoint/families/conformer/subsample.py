"""From mel frames to rows by strided convolutions over time and mels (Rekesh et al., 2023, arXiv:2305.05084)."""

import math
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.models.batch import AudioBatch
from counterpoint.models.linear import Linear

_KERNEL, _STRIDE = 3, 2


@final
class Subsample(nn.Module):
    """The first part of a conformer: batch -> rows (rows, hidden), each from its own window of frames.

    Windows overlap, so that each row is computed independently. Every convolution must read zeros outside of the clip,
    so intermediate values outside are masked as well.
    """

    def __init__(self, section: ConformerConfig) -> None:
        super().__init__()
        channels = section.stem_channels
        self.scale = math.sqrt(section.hidden) if section.scale_input else 1.0
        self.first = _strided(1, channels, groups=1)
        self.steps = nn.ModuleList(_SeparableStep(channels) for _ in range(section.halvings - 1))
        self.linear = Linear(channels * section.stem_mels, section.hidden, bias=True)

    def forward(self, _rows: Tensor | None, batch: AudioBatch) -> Tensor:
        # After a halving, place i of a window is inside the clip if its middle frame is, the second of three.
        filled = batch.filled
        grid = batch.frames.to(self.linear.weight.dtype).masked_fill(~filled[:, :, None], 0)[:, None]
        for convolution in (self.first, *self.steps):
            filled = filled[:, 1::2]
            grid = F.relu(convolution(grid)).masked_fill(~filled[:, None, :, None], 0)
        rows: Tensor = self.linear(grid.flatten(1)) * self.scale
        return rows


@final
class _SeparableStep(nn.Module):
    """A strided depthwise convolution, then a pointwise one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = _strided(channels, channels, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, grid: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(grid))
        return out


def _strided(inputs: int, outputs: int, groups: int) -> nn.Conv2d:
    """A convolution that halves mels with padding, and time without padding."""
    return nn.Conv2d(inputs, outputs, _KERNEL, stride=_STRIDE, padding=(0, _KERNEL // 2), groups=groups)
