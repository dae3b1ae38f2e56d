"""Context parallelism: a lane's rows are spread over cp ranks, and attention trades rows for heads.

Each rank computes all rows of the lane for its share of the heads (Jacobs et al. 2023, arXiv:2309.14509); where there
are fewer key-value heads than shares, keys and values are gathered instead. Images that lie whole on their ranks need
no trade at all.
"""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.errors import PlacementError
from counterpoint.models.attention import Attention
from counterpoint.models.chain import Chain
from counterpoint.models.conformer import ConformerConv
from counterpoint.models.mamba import Filters, Mamba, Streams
from counterpoint.models.relative import Relative, RelativeAttention
from counterpoint.models.segments import Segments, Windows
from counterpoint.parallelize.exchange import RowExchange, TensorGroup


def apply_context_parallel(chain: Chain, ranks: TensorGroup | None) -> None:
    """Replace what mixes rows in every layer, in place; where one rank is alone nothing changes.

    Raises PlacementError for heads that the number of ranks does not divide.
    """
    if ranks is None:
        return
    for name, module in list(chain.named_modules()):
        if isinstance(module, Attention):
            _check_heads(name, module.q.weight.shape[0] // module.head_dim, ranks.size)
            module.mix = ContextMix(module.mix, ranks)
        elif isinstance(module, Mamba):
            _check_heads(name, module.dt.weight.shape[0], ranks.size)
            module.mix = ContextMambaMix(module.mix, ranks)
        elif isinstance(module, RelativeAttention):
            _check_heads(name, module.content_bias.shape[0], ranks.size)
            module.mix = ContextRelativeMix(module.mix, ranks)
        elif isinstance(module, ConformerConv):
            # Channels divide where heads do: every conformer layer has both.
            module.mix = ContextTimeMix(module.mix, ranks)


def _check_heads(name: str, heads: int, size: int) -> None:
    if heads % size:
        raise PlacementError(
            f"{name} has {heads} heads on each tensor-parallel rank, expected a multiple of cp ({size}); "
            "change heads, tp or cp"
        )


@final
class HeadExchange(nn.Module):
    """The two exchanges of rows for heads: rows (rows, heads, ...) of a rank's share, heads of all rows of the lane."""

    def __init__(self, ranks: TensorGroup) -> None:
        super().__init__()
        self.size = ranks.size
        self.ranks = ranks
        self.to_heads = RowExchange(self._rows_to_heads, self._heads_to_rows)
        self.to_rows = RowExchange(self._heads_to_rows, self._rows_to_heads)
        self.gather = RowExchange(ranks.all_gather, ranks.reduce_scatter)

    def shared_to_heads(self, rows: Tensor, heads: int) -> Tensor:
        """What a group of heads shares, (rows, groups, ...): all rows of the lane, for this rank's share of `heads`."""
        if rows.shape[1] % self.size == 0:
            out: Tensor = self.to_heads(rows)
            return out
        gathered: Tensor = self.gather(rows)
        return gathered[:, self.wanted(heads, rows.shape[1], rows.device)]

    def own(self, weights: Tensor, heads: int) -> Tensor:
        """This rank's share of weights (groups, ...) whose groups serve `heads` heads in all."""
        return weights[self.wanted(heads, weights.shape[0], weights.device)]

    def wanted(self, heads: int, groups: int, device: torch.device) -> Tensor:
        """The groups that this rank's heads read: each once where they divide evenly, else one for every head."""
        share = heads // self.size
        first = self.ranks.rank * share
        if groups % self.size == 0:
            return torch.arange(groups, device=device).view(self.size, -1)[self.ranks.rank]
        return torch.arange(first, first + share, device=device) // (heads // groups)

    def _rows_to_heads(self, rows: Tensor) -> Tensor:
        """Own rows of all heads (rows, heads, dim) to all rows of own heads (rows * size, heads / size, dim)."""
        num_rows, heads, *rest = rows.shape
        parts = rows.reshape(num_rows, self.size, heads // self.size, *rest).transpose(0, 1)
        return self.ranks.all_to_all(parts).flatten(0, 1)

    def _heads_to_rows(self, rows: Tensor) -> Tensor:
        """The way back: (rows * size, heads / size, dim) to (rows, heads, dim)."""
        parts = rows.reshape(self.size, rows.shape[0] // self.size, *rows.shape[1:])
        return self.ranks.all_to_all(parts).transpose(0, 1).flatten(1, 2)


@final
class ContextMix(nn.Module):
    """`mix` of all rows of the lane on a rank's share of the heads; inputs and output are the rank's own rows."""

    def __init__(self, mix: nn.Module, ranks: TensorGroup) -> None:
        super().__init__()
        self.mix = mix
        self.exchange = HeadExchange(ranks)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, segments: Segments | Windows) -> Tensor:
        """(rows, heads, dim) and twice (rows, kv_heads, dim) -> (rows, heads, dim)."""
        if segments.own is not None:
            alone: Tensor = self.mix(queries, keys, values, segments.own)
            return alone
        heads = queries.shape[1]
        keys, values = (self.exchange.shared_to_heads(rows, heads) for rows in (keys, values))
        mixed: Tensor = self.exchange.to_rows(self.mix(self.exchange.to_heads(queries), keys, values, segments))
        return mixed


@final
class ContextMambaMix(nn.Module):
    """`mix` of all rows of the lane on a rank's share of the heads; streams and output are the rank's own rows."""

    def __init__(self, mix: nn.Module, ranks: TensorGroup) -> None:
        super().__init__()
        self.mix = mix
        self.exchange = HeadExchange(ranks)

    def forward(self, streams: Streams, filters: Filters, segments: Segments) -> Tensor:
        heads = streams.x.shape[1]
        paces = self.exchange.to_heads(torch.stack((streams.step, streams.decay), dim=2))
        own_streams = Streams(
            self.exchange.to_heads(streams.x),
            self.exchange.shared_to_heads(streams.b, heads),
            self.exchange.shared_to_heads(streams.c, heads),
            *paces.unbind(2),
        )
        own_filters = Filters(*(self.exchange.own(weights, heads) for weights in filters))
        mixed: Tensor = self.exchange.to_rows(self.mix(own_streams, own_filters, segments))
        return mixed


@final
class ContextRelativeMix(nn.Module):
    """`mix` of all rows of the lane on a rank's share of the heads; rows in and out are the rank's own."""

    def __init__(self, mix: nn.Module, ranks: TensorGroup) -> None:
        super().__init__()
        self.mix = mix
        self.exchange = HeadExchange(ranks)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, relative: Relative, segments: Segments) -> Tensor:
        """Three times (rows, heads, dim) -> (rows, heads, dim)."""
        if segments.own is not None:
            alone: Tensor = self.mix(queries, keys, values, relative, segments.own)
            return alone
        heads = queries.shape[1]
        own = Relative(*(self.exchange.own(of_heads, heads) for of_heads in relative))
        together = self.exchange.to_heads(torch.stack((queries, keys, values), dim=2))
        mixed: Tensor = self.exchange.to_rows(self.mix(*together.unbind(2), own, segments))
        return mixed


@final
class ContextTimeMix(nn.Module):
    """`mix` of all rows of the lane on a rank's share of the channels; rows in and out are the rank's own."""

    def __init__(self, mix: nn.Module, ranks: TensorGroup) -> None:
        super().__init__()
        self.mix = mix
        self.exchange = HeadExchange(ranks)

    def forward(self, rows: Tensor, weight: Tensor, segments: Segments) -> Tensor:
        """Rows (rows, channels) and weight (channels, width) -> (rows, channels)."""
        if segments.own is not None:
            alone: Tensor = self.mix(rows, weight, segments.own)
            return alone
        own = self.exchange.own(weight, weight.shape[0])
        mixed: Tensor = self.exchange.to_rows(self.mix(self.exchange.to_heads(rows), own, segments))
        return mixed
