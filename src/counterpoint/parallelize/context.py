"""Context parallelism: a lane's rows are spread over cp ranks, and attention trades rows for heads.

Each rank computes all rows of the lane for its share of the heads (Jacobs et al. 2023, arXiv:2309.14509); where there
are fewer key-value heads than shares, keys and values are gathered instead. Images that are whole on their ranks need
no exchange at all.
"""

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoint.errors import PlacementError
from counterpoint.models.chain import Chain
from counterpoint.models.seams import Mix, Trade
from counterpoint.models.segments import Sampled, Segments, Windows
from counterpoint.parallelize.exchange import RowExchange, TensorGroup
from counterpoint.parallelize.groups import groups_read


def apply_context_parallel(chain: Chain, ranks: TensorGroup | None) -> None:
    """Replace what mixes rows in every layer, in place; on a single rank nothing changes.

    Raises PlacementError for heads that the number of ranks does not divide.
    """
    if ranks is None:
        return
    for name, module in list(chain.named_modules()):
        if isinstance(module, Mix):
            _check_heads(name.rpartition(".")[0], module, ranks.size)
            chain.set_submodule(name, ContextMix(module, ranks))


def _check_heads(layer: str, mix: Mix[Any], size: int) -> None:
    what, count = mix.traded, mix.counts[mix.traded]
    if count % size:
        raise PlacementError(
            f"{layer} has {count} {what} on each tensor-parallel rank, expected a multiple of cp ({size}); "
            f"change {what}, tp or cp"
        )


@final
class HeadExchange(nn.Module):
    """The two exchanges between own rows of all heads, (rows, heads, ...), and all rows of the lane of own heads."""

    def __init__(self, ranks: TensorGroup) -> None:
        super().__init__()
        self.size = ranks.size
        self.ranks = ranks
        self.to_heads = RowExchange(self._rows_to_heads, self._heads_to_rows)
        self.to_rows = RowExchange(self._heads_to_rows, self._rows_to_heads)
        self.gather = RowExchange(ranks.all_gather, ranks.reduce_scatter)

    def shared_to_heads(self, rows: Tensor, heads: int) -> Tensor:
        """All rows of the lane of keys or values (rows, groups, ...) that this rank's share of `heads` reads."""
        if rows.shape[1] % self.size == 0:
            out: Tensor = self.to_heads(rows)
            return out
        gathered: Tensor = self.gather(rows)
        return gathered[:, self._read(heads, rows.shape[1], rows.device)]

    def own(self, weights: Tensor, heads: int) -> Tensor:
        """This rank's share of weights (groups, ...) whose groups serve `heads` heads in all."""
        return weights[self._read(heads, weights.shape[0], weights.device)]

    def _read(self, heads: int, groups: int, device: torch.device) -> Tensor:
        return groups_read(self.ranks.rank, self.size, heads, groups, device)

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
    """`mix` of all rows of the lane on a rank's share of the heads; rows in and out are the rank's own."""

    def __init__(self, mix: Mix[Any], ranks: TensorGroup) -> None:
        super().__init__()
        self.mix = mix
        self.exchange = HeadExchange(ranks)

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments | Windows | Sampled) -> Tensor:
        """The inputs of `mix`, rows and heads cut as its trades say -> (rows, heads, ...)."""
        if segments.own is not None:
            alone: Tensor = self.mix(inputs, segments.own)
            return alone
        heads = inputs[self.mix.trades.index(Trade.HEADS)].shape[1]
        of_heads = self._traded([given for given, trade in self._pairs(inputs) if trade is Trade.HEADS])
        own: list[Tensor] = []
        for given, trade in self._pairs(inputs):
            match trade:
                case Trade.HEADS:
                    own.append(next(of_heads))
                case Trade.GROUPS:
                    own.append(self.exchange.shared_to_heads(given, heads))
                case Trade.WEIGHTS:
                    own.append(self.exchange.own(given, heads))
        mixed: Tensor = self.exchange.to_rows(self.mix(tuple(own), segments))
        return mixed

    def _pairs(self, inputs: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, Trade]]:
        return zip(inputs, self.mix.trades, strict=True)

    def _traded(self, given: Sequence[Tensor]) -> Iterator[Tensor]:
        """Rows for heads; what has the same shape and dtype goes in one exchange."""
        traded: dict[int, Tensor] = {}
        for form in dict.fromkeys((rows.shape, rows.dtype) for rows in given):
            places = [place for place, rows in enumerate(given) if (rows.shape, rows.dtype) == form]
            if len(places) == 1:
                traded[places[0]] = self.exchange.to_heads(given[places[0]])
            else:
                together = self.exchange.to_heads(torch.stack([given[place] for place in places], dim=2))
                traded |= dict(zip(places, together.unbind(2), strict=True))
        return (traded[place] for place in range(len(given)))
