"""Learned queries that look at the rows of an item and leave in their place."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.batch import ItemBatch
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.mlp import ACTIVATIONS, Mlp
from counterpoint.models.multiply import ReadTable
from counterpoint.models.norm import norm_of
from counterpoint.models.seams import Enter, Mix, Trade
from counterpoint.models.segments import Sampled
from counterpoint.projectors.part import merge_patches
from counterpoint.projectors.resampler.spec import ResamplerConfig


@final
class SampledMix(Mix[Sampled]):
    """Keys and values (rows, heads, dim), seen by queries (heads, queries, dim) -> (rows that leave, heads, dim)."""

    trades = (Trade.HEADS, Trade.HEADS, Trade.WEIGHTS)

    def forward(self, inputs: tuple[Tensor, ...], sampled: Sampled) -> Tensor:
        """What the queries see of each item; without any item all inputs still get gradients, of zero."""
        keys, values, queries = inputs
        seen = keys.new_zeros((sampled.rows, *keys.shape[1:]))
        if not sampled.buckets:
            return seen + (keys.sum() + values.sum() + queries.sum()) * 0
        for bucket, places in zip(sampled.buckets, sampled.places, strict=True):
            mask = None if bucket.filled is None else bucket.filled[:, None, None, :]
            looking = queries.expand(bucket.documents, *queries.shape)
            of_items = F.scaled_dot_product_attention(looking, bucket.pad(keys), bucket.pad(values), attn_mask=mask)
            seen = seen.index_copy(0, places, of_items.transpose(1, 2).flatten(0, 1))
        return seen


@final
class SampledAttention(nn.Module):
    """Normed rows (rows, inputs), of whose items learned queries make rows (rows that leave, hidden)."""

    def __init__(self, section: ResamplerConfig, inputs: int) -> None:
        super().__init__()
        hidden, bias = section.hidden, section.bias
        self.head_dim = hidden // section.heads
        self.queries = nn.Parameter(torch.empty(section.queries, hidden))
        self.read: nn.Module = ReadTable()
        self.q = Linear(hidden, hidden, bias=bias)
        self.enter = Enter()
        self.k = Linear(inputs, hidden, bias=bias)
        self.v = Linear(inputs, hidden, bias=bias)
        self.mix: nn.Module = SampledMix(heads=section.heads)
        self.o = OutputLinear(hidden, hidden, bias=bias)

    def forward(self, rows: Tensor, sampled: Sampled) -> Tensor:
        # All items have the same queries, so they are multiplied once.
        places = torch.arange(len(self.queries), device=rows.device)
        products = (self.q(self.read(self.queries, places)), *self.enter.products(rows, self.k, self.v))
        queries, keys, values = (product.unflatten(1, (-1, self.head_dim)) for product in products)
        out: Tensor = self.o(self.mix((keys, values, queries.transpose(0, 1)), sampled).flatten(1))
        return out


@final
class Resampler(nn.Module):
    """Merge and norm, then attention of queries, a norm and an MLP: (rows, hidden) -> (rows that leave, outputs)."""

    def __init__(self, section: ResamplerConfig, group: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.group = group
        self.norm = norm_of(section.norm, inputs, section.norm_eps)
        self.attention = SampledAttention(section, inputs)
        self.mlp_norm = norm_of(section.norm, section.hidden, section.norm_eps)
        activation = ACTIVATIONS[section.activation]
        self.mlp = Mlp(section.hidden, section.ffn, outputs, activation, bias=section.bias)

    def forward(self, rows: Tensor, batch: ItemBatch) -> Tensor:
        seen = self.attention(self.norm(merge_patches(rows, self.group)), batch.sampled)
        out: Tensor = self.mlp(self.mlp_norm(seen))
        return out


def part(section: ResamplerConfig, group: int, inputs: int, outputs: int) -> Resampler:
    """What makes of each item's rows, `group` of them merged, as many as there are queries."""
    return Resampler(section, group, inputs, outputs)
