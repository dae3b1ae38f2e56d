"""Attention whose scores know the distance of query and key (Dai et al., 2019, arXiv:1901.02860, section 3.3)."""

from typing import NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.batch import Batch
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Enter, Mix, Trade
from counterpoint.models.segments import Bucket, Segments

_SLOWEST = 10000.0
"""The wavelengths of the sinusoids end at this number times 2 pi (Vaswani et al., 2017)."""


class Relative(NamedTuple):
    """What scores read besides queries and keys, head by head: what is added to a query that meets a key, `content`
    (heads, dim), or a distance, `distance` (heads, dim), and the `keys` of the distances (heads, 2 * reach, dim), in
    the order reach - 1, ..., -reach."""

    content: Tensor
    distance: Tensor
    keys: Tensor


@final
class RelativeAttention(nn.Module):
    """Attention to all rows of an item on normed rows (rows, hidden) -> (rows, hidden).

    Query i scores key j by (q_i + u) k_j + (q_i + v) R_(i-j), where R are projected sinusoids of the distance. The
    number of heads follows from the weights: a share of the weights computes a share of the heads.
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
        # The longest item of the lane, so that all ranks of the lane compute keys of the same distances.
        reach = max(batch.segments.lengths, default=0)
        distances = self._split_heads(self.r(distance_rows(reach, rows)))
        relative = Relative(self.content_bias, self.distance_bias, distances.transpose(0, 1))
        mixed = self.mix((queries, keys, values, *relative), batch.segments)
        out: Tensor = self.o(mixed.flatten(1))
        return out

    def _split_heads(self, rows: Tensor) -> Tensor:
        return rows.view(rows.shape[0], rows.shape[1] // self.head_dim, self.head_dim)


def distance_rows(reach: int, like: Tensor) -> Tensor:
    """Sinusoids (2 * reach, hidden) of the distances reach - 1, ..., -reach, sines and cosines in turn, in the dtype
    and width of the rows `like` (rows, hidden)."""
    hidden = like.shape[1]
    wide = torch.promote_types(like.dtype, torch.float32)
    exponents = torch.arange(0, hidden, 2, device=like.device, dtype=wide) / hidden
    distances = torch.arange(reach - 1, -reach - 1, -1, device=like.device, dtype=wide)
    angles = distances[:, None] * _SLOWEST**-exponents
    return torch.stack((angles.sin(), angles.cos()), dim=2).flatten(1).to(like.dtype)


@final
class RelativeMix(Mix[Segments]):
    """Relative attention's core: queries, keys and values (rows, heads, dim), and what is relative."""

    trades = (Trade.HEADS, Trade.HEADS, Trade.HEADS, Trade.WEIGHTS, Trade.WEIGHTS, Trade.WEIGHTS)

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments) -> Tensor:
        """Rows of no item come out as zeros. Without any item all inputs still get gradients, of zero."""
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
    """Three times (items, heads, longest, dim) -> the same."""
    reach, longest = relative.keys.shape[1] // 2, bucket.longest
    met = relative.keys[:, reach - longest : reach + longest]
    by_distance = (queries + relative.distance[:, None]) @ met.transpose(1, 2)
    scores = by_key(by_distance) * queries.shape[-1] ** -0.5
    if bucket.filled is not None:
        scores = scores.masked_fill(~bucket.filled[:, None, None, :], float("-inf"))
    return F.scaled_dot_product_attention(queries + relative.content[:, None], keys, values, attn_mask=scores)


def by_key(scores: Tensor) -> Tensor:
    """Scores (..., n, 2n) of query i and distance n - 1 - m in column m -> (..., n, n) of query i and key j.

    Key j of query i is of distance i - j, so column n - 1 - i + j: in the flattened rows, one place earlier in every
    row.
    """
    longest = scores.shape[-2]
    step = 2 * longest - 1
    shifted = scores.flatten(-2)[..., longest - 1 : longest - 1 + longest * step]
    return shifted.reshape(*scores.shape[:-1], step)[..., :longest]
