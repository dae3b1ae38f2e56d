"""The parts of a FastConformer with its projector (Gulati et al., 2020, arXiv:2005.08100; Rekesh et al., 2023,
arXiv:2305.05084)."""

from functools import partial
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.families.conformer.fixed_norm import FixedBatchNorm
from counterpoint.families.conformer.relative import RelativeAttention
from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.families.conformer.subsample import Subsample
from counterpoint.families.conformer.time_conv import TimeFilter, TimeMix
from counterpoint.families.encoder_parts import layer_parts, projector_part
from counterpoint.kinds.family import Ends
from counterpoint.models.batch import Batch
from counterpoint.models.chain import Build, Earlier, Part
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.mlp import Mlp
from counterpoint.models.norm import LayerNorm
from counterpoint.models.seams import Enter, Layer

_MLP_SHARE = 0.5
"""Factor of each of the two half-step MLPs (Gulati et al., 2020, section 2.3)."""


def parts(section: ConformerConfig, ends: Ends) -> list[Part]:
    """The parts `embed`, `layers.N`, each of which ends in a norm, and `projector`."""

    def layer(_number: int) -> Build:
        return partial(_layer, section)

    return [
        Part("embed", partial(_embedding, section), makes_rows=True),
        *layer_parts(section, ends, section.stack, layer),
        projector_part(section, ends, section.stack),
    ]


@final
class ConformerLayer(Layer):
    """Half-step MLP, attention, convolution, half-step MLP, each with a norm and a residual; then a norm."""

    def __init__(self, section: ConformerConfig) -> None:
        super().__init__()
        self.first_norm = _norm(section)
        self.first_mlp = _mlp(section)
        self.attention_norm = _norm(section)
        self.attention = RelativeAttention(section.hidden, section.heads, bias=section.bias)
        self.conv_norm = _norm(section)
        self.conv = ConformerConv(section)
        self.second_norm = _norm(section)
        self.second_mlp = _mlp(section)
        self.norm = _norm(section)

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

    The number of channels follows from the shapes of the weights, so a shard computes its share of the channels.
    """

    def __init__(self, section: ConformerConfig) -> None:
        super().__init__()
        hidden, bias = section.hidden, section.conv_bias
        self.enter = Enter()
        self.value = Linear(hidden, hidden, bias=bias)
        self.gate = Linear(hidden, hidden, bias=bias)
        self.depthwise = TimeFilter(hidden, section.conv, bias=bias)
        self.mix: nn.Module = TimeMix(channels=hidden)
        self.norm = FixedBatchNorm(hidden, section.norm_eps)
        self.o = OutputLinear(hidden, hidden, bias=bias)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        values, gates = self.enter.products(rows, self.value, self.gate)
        gated = values * gates.sigmoid()
        mixed = self.mix((gated, self.depthwise.weight), batch.segments)
        if self.depthwise.bias is not None:
            mixed = mixed + self.depthwise.bias
        out: Tensor = self.o(F.silu(self.norm(mixed)))
        return out


def _embedding(section: ConformerConfig, _earlier: Earlier) -> nn.Module:
    return Subsample(section)


def _layer(section: ConformerConfig, _earlier: Earlier) -> nn.Module:
    return ConformerLayer(section)


def _norm(section: ConformerConfig) -> LayerNorm:
    return LayerNorm(section.hidden, section.norm_eps)


def _mlp(section: ConformerConfig) -> Mlp:
    return Mlp(section.hidden, section.ffn, section.hidden, F.silu, bias=section.bias)
