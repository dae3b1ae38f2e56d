"""A layer whose rows see the mean of the rows before them, or of all rows of their item."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.extend.data import Segments
from counterpoint.extend.models import Batch, Enter, Layer, Linear, Mix, OutputLinear, Trade, norms_of
from counterpoint_example.running_mean.spec import RunningMeanSection


@final
class MeanMix(Mix[Segments]):
    """Means of a document's rows, head by head: of those up to each, or of all.

    `inputs` are values (rows, heads, dim), gates (rows, heads) and gains (heads,); what lies in no document is zero.
    """

    trades = (Trade.HEADS, Trade.HEADS, Trade.WEIGHTS)

    def __init__(self, heads: int, *, causal: bool) -> None:
        super().__init__(heads=heads)
        self.causal = causal

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments) -> Tensor:
        values, gates, gains = inputs
        gated = values * (gates.sigmoid() * gains)[:, :, None]
        # All rows of every rank's batch take part in the gradient, also where there is no document.
        means = gated * 0
        for bucket in segments.buckets:
            padded, count = bucket.pad(gated), bucket.pad(gated.new_ones(len(gated), 1, 1))
            if self.causal:
                mean = padded.cumsum(2) / count.cumsum(2).clamp(min=1)
            else:
                mean = (padded.sum(2, keepdim=True) / count.sum(2, keepdim=True)).expand_as(padded)
            means = bucket.unpad_into(means, mean)
        return means


@final
class RunningMean(nn.Module):
    """The sublayer, rows (rows, hidden) -> the same."""

    def __init__(self, hidden: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.dim = hidden // heads
        self.enter = Enter()
        self.values = Linear(hidden, hidden, bias=False)
        self.gates = Linear(hidden, heads, bias=True)
        self.gains = nn.Parameter(torch.empty(heads))
        self.mix: nn.Module = MeanMix(heads, causal=causal)
        self.o = OutputLinear(hidden, hidden, bias=True)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        values, gates = self.enter.products(rows, self.values, self.gates)
        # As many heads as are here, said in numbers: of no rows nothing else could be found out.
        values = values.view(len(values), gates.shape[1], self.dim)
        mixed = self.mix((values, gates, self.gains), batch.segments)
        out: Tensor = self.o(mixed.flatten(1))
        return out


@final
class RunningMeanLayer(Layer):
    """rows + post_norm(mean(norm(rows)))."""

    def __init__(self, norm: nn.Module, mean: RunningMean, post_norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.mean = mean
        self.post_norm = post_norm

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        out: Tensor = rows + self.post_norm(self.mean(self.norm(rows), batch))
        return out


def layer(section: RunningMeanSection, hidden: int) -> Layer:
    """A layer of a decoder."""
    norm, post_norm = norms_of(section, hidden)
    return RunningMeanLayer(norm, RunningMean(hidden, section.mean_heads, causal=True), post_norm)
