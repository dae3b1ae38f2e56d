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
    own_scale,
    pad_heads,
)
from counterpoint.layers.attention.rotary import RotaryEmbedding
from counterpoint.models.batch import Batch, CosSin
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Costly, Enter, Mix, Trade, call
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
        # Heads may be padded, so the scale of their own width is written down.
        self.scores = scores = scores._replace(scale=own_scale(head_dim) if scores.scale is None else scores.scale)
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

    def mix_with(self, queries: Tensor, keys: Tensor, values: Tensor, choice: KernelChoice) -> Tensor:
        """The outputs (rows, heads, width) of the kernel of a choice; heads are padded to its width."""
        assert isinstance(self.mix, AttentionMix), "a kernel is chosen where no rows are exchanged"
        kernel, length, borders, _width = choice
        mixed: Tensor = self.mix.core(attend_packed, (queries, keys, values), kernel, length, borders, self.scores)
        return mixed

    @property
    def is_kept(self) -> bool:
        """Whether recomputed layers keep the kernel's outputs; then it runs outside of compiled regions."""
        return isinstance(self.mix, AttentionMix) and self.mix.core.is_kept

    def look(self, queries: Tensor, keys: Tensor, values: Tensor, batch: Batch) -> Tensor:
        """The attention outputs (rows, heads, dim): the part of the layer that is not compiled."""
        mixed: Tensor = self.mix((queries, keys, values), self.sees(batch))
        return mixed

    def leave(self, mixed: Tensor) -> Tensor:
        """The output projection: heads (rows, heads, dim or more) -> rows (rows, hidden)."""
        out: Tensor = self.o(mixed[..., : self.head_dim].flatten(1))
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
        self.core = Costly("attention")

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments | Windows) -> Tensor:
        queries, keys, values = inputs
        return attend(queries, keys, values, segments, self.scores, self.core)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    segments: Segments | Windows,
    scores: Scores,
    core: Callable[..., Tensor] = call,
) -> Tensor:
    """Attention of queries (rows, heads, dim) to keys and values (rows, kv_heads, dim) of their own document.

    `core` calls the function that computes. Outputs of padding rows are unspecified but finite: zeros, or attention
    among padding rows. Without any document all three inputs get zero gradients.
    """
    if not segments.buckets:
        return queries * 0 + (keys.sum() + values.sum()) * 0
    heads, width = (queries, keys, values), queries.shape[-1]
    choice = choose_kernel(segments, queries, width, scores)
    if choice is not None:
        kernel, length, borders, padded = choice
        if padded != width and scores.scale is None:
            scores = scores._replace(scale=own_scale(width))
        heads = (pad_heads(queries, padded), pad_heads(keys, padded), pad_heads(values, padded))
        return core(attend_packed, heads, kernel, length, borders, scores)[..., :width]
    if isinstance(segments, Segments) and segments.borders is not None and has_varlen(queries):
        return core(attend_varlen, heads, segments.borders, segments.longest, scores)
    return core(_attend_buckets, heads, segments, scores)


def _attend_buckets(
    queries: Tensor, keys: Tensor, values: Tensor, segments: Segments | Windows, scores: Scores
) -> Tensor:
    """Attention of documents that are padded to similar lengths."""
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
