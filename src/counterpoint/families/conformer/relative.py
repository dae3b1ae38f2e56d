"""Attention with relative positions (Dai et al., 2019, arXiv:1901.02860, section 3.3)."""

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.batch import Batch
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Enter, Mix, Trade
from counterpoint.models.segments import Bucket, Segments

_SLOWEST = 10000.0
"""The longest wavelength of the sinusoids is this number times 2 pi (Vaswani et al., 2017)."""


class Relative(NamedTuple):
    """Inputs of the scores besides queries and keys.

    `content` (heads, dim) is added to queries before they are multiplied with keys, `distance` (heads, dim) before
    they are multiplied with `keys` (heads, 2 * reach, dim), those of the distances reach - 1, ..., -reach.
    """

    content: Tensor
    distance: Tensor
    keys: Tensor


@final
class RelativeAttention(nn.Module):
    """Attention to all rows of an item on normed rows (rows, hidden) -> (rows, hidden).

    Query i scores key j by (q_i + u) k_j + (q_i + v) R_(i-j), where R are projected sinusoids of the distance. The
    number of heads follows from the shapes of the weights, so a shard computes its share of the heads.
    """

    def __init__(self, hidden: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.head_dim = hidden // heads
        self.enter = Enter()
        self.q = Linear(hidden, hidden, bias=bias)
        self.k = Linear(hidden, hidden, bias=bias)
        self.v = Linear(hidden, hidden, bias=bias)
        self.r = Linear(hidden, hidden, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, self.head_dim))
        self.distance_bias = nn.Parameter(torch.empty(heads, self.head_dim))
        self.mix: nn.Module = RelativeMix(heads=heads)
        self.o = OutputLinear(hidden, hidden, bias=bias)

    def forward(self, rows: Tensor, batch: Batch) -> Tensor:
        products = self.enter.products(rows, self.q, self.k, self.v)
        queries, keys, values = (self._split_heads(product) for product in products)
        # The longest item of the whole lane, so that all ranks of the lane compute keys of the same distances.
        reach = max(batch.segments.lengths, default=0)
        distances = self._split_heads(self.r(distance_rows(reach, rows)))
        relative = Relative(self.content_bias, self.distance_bias, distances.transpose(0, 1))
        mixed = self.mix((queries, keys, values, *relative), batch.segments)
        out: Tensor = self.o(mixed.flatten(1))
        return out

    def _split_heads(self, rows: Tensor) -> Tensor:
        return rows.view(rows.shape[0], rows.shape[1] // self.head_dim, self.head_dim)


def distance_rows(reach: int, like: Tensor) -> Tensor:
    """Sinusoids (2 * reach, hidden) of the distances reach - 1, ..., -reach, with sines and cosines alternating.

    Dtype and width are those of the rows `like` (rows, hidden).
    """
    hidden = like.shape[1]
    wide = torch.promote_types(like.dtype, torch.float32)
    exponents = torch.arange(0, hidden, 2, device=like.device, dtype=wide) / hidden
    distances = torch.arange(reach - 1, -reach - 1, -1, device=like.device, dtype=wide)
    angles = distances[:, None] * _SLOWEST**-exponents
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1).to(like.dtype)


@final
class RelativeMix(Mix[Segments]):
    """The core of relative attention: queries, keys and values (rows, heads, dim), and the tensors of `Relative`."""

    trades = (Trade.HEADS, Trade.HEADS, Trade.HEADS, Trade.WEIGHTS, Trade.WEIGHTS, Trade.WEIGHTS)

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments) -> Tensor:
        """Padding rows give zeros. Without any item all inputs get zero gradients."""
        queries, keys, values, *of_heads = inputs
        relative = Relative(*of_heads)
        if not segments.buckets:
            return queries * 0 + sum(tensor.sum() * 0 for tensor in (keys, values, *relative))
        mixed = queries.new_zeros(queries.shape)
        for bucket in segments.buckets:
            padded = _attend_padded(bucket, bucket.pad(queries), bucket.pad(keys), bucket.pad(values), relative)
            mixed = bucket.unpad_into(mixed, padded)
        return mixed


def _attend_padded(bucket: Bucket, queries: Tensor, keys: Tensor, values: Tensor, relative: Relative) -> Tensor:
    """Queries, keys and values (items, heads, longest, dim) -> outputs (items, heads, longest, dim)."""
    reach, longest = relative.keys.shape[1] // 2, bucket.longest
    met = relative.keys[:, reach - longest : reach + longest]
    by_distance = (queries + relative.distance[:, None]) @ met.transpose(1, 2)
    scores = by_key(by_distance) * queries.shape[-1] ** -0.5
    if bucket.filled is not None:
        scores = scores.masked_fill(~bucket.filled[:, None, None, :], float("-inf"))
    return F.scaled_dot_product_attention(queries + relative.content[:, None], keys, values, attn_mask=scores)


def by_key(scores: Tensor) -> Tensor:
    """Scores (..., n, 2n) by query and distance -> scores (..., n, n) by query and key.

    Column m has the distance n - 1 - m. Query i and key j have the distance i - j, thus column n - 1 - i + j, which in
    the flattened scores begins one place earlier in every row.
    """
    longest = scores.shape[-2]
    step = 2 * longest - 1
    shifted = scores.flatten(-2)[..., longest - 1 : longest - 1 + longest * step]
    return shifted.reshape(*scores.shape[:-1], step)[..., :longest]
