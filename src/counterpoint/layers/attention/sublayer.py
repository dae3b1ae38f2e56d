"""Attention inside each document of packed rows."""

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.layers.attention.kernels import (
    KernelChoice,
    Scores,
    attend_packed,
    attend_varlen,
    choose_even,
    choose_packed,
    has_varlen,
)
from counterpoint.layers.attention.rotary import RotaryEmbedding
from counterpoint.models.batch import Batch, CosSin
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Enter, Mix, Trade
from counterpoint.models.segments import Bucket, Segments, Windows


def of_documents(batch: Batch) -> Segments:
    """The rows of each document, or item."""
    return batch.segments


@final
class Attention(nn.Module):
    """Grouped-query attention on normed rows (rows, hidden) -> (rows, hidden).

    The numbers of heads follow from the shapes of the weights, so a shard of the weights computes its share of the
    heads. `rotary` rotates queries and keys; `q_norm` and `k_norm` normalise each head. `sees` returns the groups of
    rows that attend to each other, by default documents; `scores` restricts attention inside a group.
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
        scores: Scores,
        rotary: RotaryEmbedding,
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
        self.scores = scores
        self.mix: nn.Module = AttentionMix(scores, heads=heads, kv_heads=kv_heads)
        self.o = OutputLinear(heads * head_dim, hidden, bias=bias)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        return self.leave(self.look(*self.project(rows, self.rotary.cos_sin(batch, rows.dtype)), batch))

    def project(self, rows: Tensor, cos_sin: CosSin | None) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries (rows, heads, dim) and keys (rows, kv_heads, dim), and values (rows, kv_heads, dim)."""
        products = self.enter.products(rows, self.q, self.k, self.v)
        queries, keys, values = (self._split_heads(product) for product in products)
        queries, keys = self.rotary(self.q_norm(queries), self.k_norm(keys), cos_sin)
        return queries, keys, values

    def kernel_choice(self, rows: Tensor, batch: Batch) -> KernelChoice | None:
        """The kernel with which `attend_packed` may replace `look`; None where context parallelism exchanges rows."""
        if not isinstance(self.mix, AttentionMix):
            return None
        return choose_kernel(self.sees(batch), rows, self.head_dim, self.scores)

    def look(self, queries: Tensor, keys: Tensor, values: Tensor, batch: Batch) -> Tensor:
        """The attention outputs (rows, heads, dim): the part of the layer that is not compiled."""
        mixed: Tensor = self.mix((queries, keys, values), self.sees(batch))
        return mixed

    def leave(self, mixed: Tensor) -> Tensor:
        """The output projection: heads (rows, heads, dim) -> rows (rows, hidden)."""
        out: Tensor = self.o(mixed.flatten(1))
        return out

    def _split_heads(self, rows: Tensor) -> Tensor:
        return rows.view(rows.shape[0], rows.shape[1] // self.head_dim, self.head_dim)


@final
class AttentionMix(Mix[Segments | Windows]):
    """Attention's core: queries (rows, heads, dim), keys and values (rows, kv_heads, dim) -> (rows, heads, dim)."""

    trades = (Trade.HEADS, Trade.GROUPS, Trade.GROUPS)
    copied = "kv_heads"

    def __init__(self, scores: Scores, *, heads: int, kv_heads: int) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads)
        self.scores = scores

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments | Windows) -> Tensor:
        queries, keys, values = inputs
        return attend(queries, keys, values, segments, self.scores)


def attend(queries: Tensor, keys: Tensor, values: Tensor, segments: Segments | Windows, scores: Scores) -> Tensor:
    """Attention of queries (rows, heads, dim) to keys and values (rows, kv_heads, dim) of their own document.

    Outputs of padding rows are unspecified but finite: zeros, or attention among padding rows. Without any document
    all three inputs get zero gradients.
    """
    if not segments.buckets:
        return queries * 0 + (keys.sum() + values.sum()) * 0
    choice = choose_kernel(segments, queries, queries.shape[-1], scores)
    if choice is not None:
        return attend_packed(queries, keys, values, *choice, scores)
    if isinstance(segments, Segments) and segments.borders is not None and has_varlen(queries):
        return attend_varlen(queries, keys, values, segments.borders, segments.longest, scores)
    mixed = queries.new_zeros(queries.shape)
    for bucket in segments.buckets:
        padded = _attend_padded(bucket, bucket.pad(queries), bucket.pad(keys), bucket.pad(values), scores)
        mixed = bucket.unpad_into(mixed, padded)
    return mixed


def choose_kernel(segments: Segments | Windows, rows: Tensor, width: int, scores: Scores) -> KernelChoice | None:
    """The kernel that reads these documents without padding, None if there is none.

    `rows` gives dtype and device, `width` is the head width.
    """
    if not isinstance(segments, Segments) or segments.borders is None or not segments.buckets:
        return None
    if segments.even:
        return choose_even(rows, width, segments.even, scores)
    return choose_packed(rows, width, segments.borders, segments.longest, scores)


def _attend_padded(bucket: Bucket, queries: Tensor, keys: Tensor, values: Tensor, scores: Scores) -> Tensor:
    mask = _mask(bucket, scores, queries.device)
    return F.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        is_causal=scores.causal and mask is None,
        scale=scores.scale,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )


def _mask(bucket: Bucket, scores: Scores, device: torch.device) -> Tensor | None:
    """A bool mask of the keys that each query sees, None if plain full or causal attention needs none."""
    if scores.window is not None and scores.narrow(bucket.longest):
        place = torch.arange(bucket.longest, device=device)
        before = place[:, None] - place
        return (before >= 0) & (before < scores.window)
    # Padding comes after a document, so causal queries never see it: only bidirectional attention needs a mask.
    return None if scores.causal or bucket.filled is None else bucket.filled[:, None, None, :]
