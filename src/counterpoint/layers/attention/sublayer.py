"""Attention inside each document of packed rows."""

from collections.abc import Callable
from typing import Any, final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.layers.attention.kernels import Lie, attend_lying, attend_varlen, has_varlen, lie_evenly, lie_packed
from counterpoint.layers.attention.rotary import Turning
from counterpoint.models.batch import Batch, Turns
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Enter, Mix, Trade
from counterpoint.models.segments import Bucket, Segments, Windows


def of_documents(batch: Batch) -> Segments:
    """The rows of each document, or item."""
    return batch.segments


@final
class Attention(nn.Module):
    """Grouped-query attention on normed rows (rows, hidden) -> (rows, hidden).

    The numbers of heads follow from the weights: a share of the weights computes a share of the heads.
    `rotary` turns queries and keys; `q_norm` and `k_norm` act on one head. `sees` says
    which rows of a batch see each other: by default those of a document.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        bias: bool,
        qkv_bias: bool,
        key_bias: bool,
        causal: bool,
        rotary: Turning,
        q_norm: nn.Module,
        k_norm: nn.Module,
        sees: Callable[[Any], Segments | Windows] = of_documents,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.enter = Enter()
        self.q = Linear(hidden, heads * head_dim, bias=qkv_bias)
        self.k = Linear(hidden, kv_heads * head_dim, bias=key_bias)
        self.v = Linear(hidden, kv_heads * head_dim, bias=qkv_bias)
        self.q_norm = q_norm
        self.k_norm = k_norm
        self.rotary = rotary
        self.sees = sees
        self.causal = causal
        self.mix: nn.Module = AttentionMix(causal=causal, heads=heads, kv_heads=kv_heads)
        self.o = OutputLinear(heads * head_dim, hidden, bias=bias)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        return self.leave(self.look(*self.project(rows, self.rotary.turns(batch, rows.dtype)), batch))

    def project(self, rows: Tensor, turns: Turns | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (rows, heads, dim), and keys and values (rows, kv_heads, dim), turned by their positions."""
        products = self.enter.products(rows, self.q, self.k, self.v)
        queries, keys, values = (self._split_heads(product) for product in products)
        queries, keys = self.rotary(self.q_norm(queries), self.k_norm(keys), turns)
        return queries, keys, values

    def lie(self, rows: Tensor, batch: Batch) -> Lie | None:
        """How the documents lie if `attend_lying` may stand for `look`: where no row comes from another rank."""
        if not isinstance(self.mix, AttentionMix):
            return None
        return lie_of(self.sees(batch), rows, self.head_dim, causal=self.causal)

    def look(self, queries: Tensor, keys: Tensor, values: Tensor, batch: Batch) -> Tensor:
        """What the rows of a document see of each other, (rows, heads, dim): the part that no compiler looks into."""
        mixed: Tensor = self.mix((queries, keys, values), self.sees(batch))
        return mixed

    def leave(self, mixed: Tensor) -> Tensor:
        """Heads side by side to rows (rows, hidden)."""
        out: Tensor = self.o(mixed.flatten(1))
        return out

    def _split_heads(self, rows: Tensor) -> Tensor:
        return rows.view(rows.shape[0], rows.shape[1] // self.head_dim, self.head_dim)


@final
class AttentionMix(Mix[Segments | Windows]):
    """Attention's core: queries (rows, heads, dim), keys and values (rows, kv_heads, dim) -> (rows, heads, dim)."""

    trades = (Trade.HEADS, Trade.GROUPS, Trade.GROUPS)

    def __init__(self, *, causal: bool, heads: int, kv_heads: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads)
        self.causal = causal

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments | Windows) -> Tensor:
        queries, keys, values = inputs
        return attend(queries, keys, values, segments, causal=self.causal)


def attend(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments | Windows, *, causal: bool) -> Tensor:
    """Attention of queries (rows, heads, dim) to keys and values (rows, kv_heads, dim) of their own document.

    Rows of no document come out as zeros, or as what they see of each other. Without any document all three inputs
    still get gradients, of zero.
    """
    if not segments.buckets:
        return queries * 0 + (keys.sum() + values.sum()) * 0
    lie = lie_of(segments, queries, queries.shape[-1], causal=causal)
    if lie is not None:
        return attend_lying(queries, keys, values, *lie, causal=causal)
    if isinstance(segments, Segments) and segments.borders is not None and has_varlen(queries):
        return attend_varlen(queries, keys, values, segments.borders, segments.longest, causal)
    mixed = queries.new_zeros(queries.shape)
    for bucket in segments.buckets:
        padded = _attend_padded(bucket, bucket.pad(queries), bucket.pad(keys), bucket.pad(values), causal)
        mixed = bucket.unpad_into(mixed, padded)
    return mixed


def lie_of(segments: Segments | Windows, rows: Tensor, width: int, *, causal: bool) -> Lie | None:
    """How documents lie for a kernel that takes them as they are; None if they must be laid out for it.

    `rows` says dtype and device, `width` that of a head.
    """
    if not isinstance(segments, Segments) or segments.borders is None or not segments.buckets:
        return None
    if segments.even:
        return lie_evenly(rows, width, segments.even, causal=causal)
    return lie_packed(rows, width, segments.borders, segments.longest)


def _attend_padded(bucket: Bucket, queries: Tensor, keys: Tensor, values: Tensor, causal: bool) -> Tensor:
    # Padding lies behind a document, where no causal query looks: only bidirectional attention needs a mask.
    mask = None if causal or bucket.filled is None else bucket.filled[:, None, None, :]
    grouped = queries.shape[1] != keys.shape[1]
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
