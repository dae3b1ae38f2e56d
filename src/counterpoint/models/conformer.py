"""A FastConformer with its projector as a list of parts (Gulati et al., 2020, arXiv:2005.08100; Rekesh et al., 2023,
arXiv:2305.05084)."""

from functools import partial
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.batch import Batch
from counterpoint.models.chain import Build, Earlier, Part
from counterpoint.models.encoder import layer_parts, projector_part
from counterpoint.models.fixed_norm import FixedBatchNorm
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.mlp import Mlp
from counterpoint.models.norm import LayerNorm
from counterpoint.models.relative import RelativeAttention
from counterpoint.models.seams import Enter, Layer
from counterpoint.models.subsample import Subsample
from counterpoint.models.time_conv import TimeFilter, TimeMix
from counterpoint.plan.sizes import ConformerSizes

_MLP_SHARE = 0.5
"""Of each MLP in the sum: the two stand for one (Gulati et al., 2020, section 2.3)."""


def conformer_parts(sizes: ConformerSizes) -> list[Part]:
    """The parts `embed`, `layers.N`, which end in a norm of their own, and `projector`."""

    def layer(_number: int) -> Build:
        return partial(_layer, sizes)

    return [
        Part("embed", partial(_embedding, sizes), makes_rows=True),
        *layer_parts(sizes, sizes.stack, layer),
        projector_part(sizes, sizes.stack),
    ]


@final
class ConformerLayer(Layer):
    """Half an MLP, attention, convolution and half an MLP, each with its norm and its residual; then a norm."""

    kind = "L"

    def __init__(self, sizes: ConformerSizes) -> None:
        super().__init__()
        self.first_norm = _norm(sizes)
        self.first_mlp = _mlp(sizes)
        self.attention_norm = _norm(sizes)
        self.attention = RelativeAttention(sizes.hidden, sizes.heads, bias=sizes.bias)
        self.conv_norm = _norm(sizes)
        self.conv = ConformerConv(sizes)
        self.second_norm = _norm(sizes)
        self.second_mlp = _mlp(sizes)
        self.norm = _norm(sizes)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        rows = rows + _MLP_SHARE * self.first_mlp(self.first_norm(rows))
        rows = rows + self.attention(self.attention_norm(rows), batch)
        rows = rows + self.conv(self.conv_norm(rows), batch)
        rows = rows + _MLP_SHARE * self.second_mlp(self.second_norm(rows))
        out: Tensor = self.norm(rows)
        return out


@final
class ConformerConv(nn.Module):
    """Gated linear unit, convolution over time, batch norm, SiLU, linear: normed rows (rows, hidden) -> the same.

    The number of channels follows from the weights: a share of the weights computes a share of the channels.
    """

    def __init__(self, sizes: ConformerSizes) -> None:
        super().__init__()
        hidden, bias = sizes.hidden, sizes.conv_bias
        self.enter = Enter()
        self.value = Linear(hidden, hidden, bias=bias)
        self.gate = Linear(hidden, hidden, bias=bias)
        self.depthwise = TimeFilter(hidden, sizes.conv, bias=bias)
        self.mix: nn.Module = TimeMix(channels=hidden)
        self.norm = FixedBatchNorm(hidden, sizes.norm_eps)
        self.o = OutputLinear(hidden, hidden, bias=bias)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        values, gates = self.enter.products(rows, self.value, self.gate)
        gated = values * gates.sigmoid()
        mixed = self.mix((gated, self.depthwise.weight), batch.segments)
        if self.depthwise.bias is not None:
            mixed = mixed + self.depthwise.bias
        out: Tensor = self.o(F.silu(self.norm(mixed)))
        return out


def _embedding(sizes: ConformerSizes, _earlier: Earlier) -> nn.Module:
    return Subsample(sizes)


def _layer(sizes: ConformerSizes, _earlier: Earlier) -> nn.Module:
    return ConformerLayer(sizes)


def _norm(sizes: ConformerSizes) -> LayerNorm:
    return LayerNorm(sizes.hidden, sizes.norm_eps)


def _mlp(sizes: ConformerSizes) -> Mlp:
    return Mlp(sizes.hidden, sizes.ffn, sizes.hidden, F.silu, bias=sizes.bias)
