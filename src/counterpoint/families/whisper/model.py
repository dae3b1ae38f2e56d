"""The parts of Whisper's encoder with its projector (Radford et al., 2022, arXiv:2212.04356).

The convolution stem computes each row independently from its own window of frames, so rows can be on any rank.
"""

from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.families.encoder_parts import tower_parts
from counterpoint.families.whisper.spec import WhisperConfig
from counterpoint.kinds.family import Ends
from counterpoint.models.batch import AudioBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.linear import Linear
from counterpoint.models.mlp import gelu
from counterpoint.models.multiply import ReadTable

_TAPS = 3
"""Width of the filter of each convolution, in frames."""


@final
class Times(nn.Module):
    """A table of positions in time, initialised with sinusoids (Vaswani et al., 2017, arXiv:1706.03762)."""

    def __init__(self, positions: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(positions, hidden))
        self.read: nn.Module = ReadTable()

    def forward(self, positions: Tensor) -> Tensor:
        """Rows (rows, hidden) of the table at int64 positions (rows,)."""
        rows: Tensor = self.read(self.weight, positions)
        return rows


@final
class Stem(nn.Module):
    """The first part: two convolutions of three taps, the second of stride 2, each with a GELU, and a position.

    A filter is a matrix (hidden, taps x inputs), tap by tap. Outside of a clip the second convolution reads its own
    padding, exact zeros, not the output of the first one on zero frames.
    """

    def __init__(self, mels: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.conv1 = Linear(_TAPS * mels, hidden, bias=True)
        self.conv2 = Linear(_TAPS * hidden, hidden, bias=True)
        self.times = Times(positions, hidden)

    def forward(self, _rows: Tensor | None, batch: AudioBatch) -> Tensor:
        count, window, mels = batch.frames.shape
        frames = batch.frames.to(self.conv1.weight.dtype)
        middles = window - _TAPS + 1
        around = torch.stack([frames[:, tap : tap + middles] for tap in range(_TAPS)], dim=2)
        inner = gelu(self.conv1(around.reshape(count * middles, _TAPS * mels)))
        inner = inner.where(batch.filled[:, 1:-1].reshape(count * middles, 1), 0)
        rows = gelu(self.conv2(inner.reshape(count, middles * inner.shape[1])))
        out: Tensor = rows + self.times(batch.positions)
        return out


def parts(section: WhisperConfig, ends: Ends) -> list[Part]:
    """The parts of an encoder of frames, whose projector stacks rows and changes their width."""
    return tower_parts(section, ends, section.stack, partial(_stem, section))


def _stem(section: WhisperConfig, _earlier: Earlier) -> nn.Module:
    return Stem(section.mels, section.hidden, section.positions)
