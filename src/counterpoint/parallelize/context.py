"""Context parallelism: a lane's rows are spread over cp ranks, and attention trades rows for heads.

Each rank computes all rows of the lane for its share of the heads (Jacobs et al. 2023, arXiv:2309.14509); where there
are fewer key-value heads than shares, keys and values are gathered instead.
"""

from typing import final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from counterpoint.errors import PlacementError
from counterpoint.models.attention import Attention
from counterpoint.models.chain import Chain
from counterpoint.models.segments import Segments
from counterpoint.parallelize.exchange import RowExchange, TensorGroup


def apply_context_parallel(chain: Chain, group: dist.ProcessGroup | None, rank: int, size: int) -> None:
    """Replace the attention core of every layer, in place; with `size` 1, where `group` is None, nothing changes.

    Comes after tensor parallelism, whose share of the heads is what is shared out here; raises PlacementError if
    `size` does not divide it.
    """
    if group is None:
        assert size == 1, "several ranks need a group"
        return
    ranks = TensorGroup(group, rank, size)
    for name, module in list(chain.named_modules()):
        if isinstance(module, Attention):
            heads = module.q.weight.shape[0] // module.head_dim
            if heads % size:
                raise PlacementError(
                    f"{name} has {heads} heads on each tensor-parallel rank, expected a multiple of cp ({size}); "
                    "change heads, tp or cp"
                )
            module.mix = ContextMix(module.mix, ranks)


@final
class ContextMix(nn.Module):
    """`mix` of all rows of the lane on a rank's share of the heads; inputs and output are the rank's own rows."""

    def __init__(self, mix: nn.Module, ranks: TensorGroup) -> None:
        super().__init__()
        self.mix = mix
        self.ranks = ranks
        self.to_heads = RowExchange(self._rows_to_heads, self._heads_to_rows)
        self.to_rows = RowExchange(self._heads_to_rows, self._rows_to_heads)
        self.gather = RowExchange(ranks.all_gather, ranks.reduce_scatter)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, segments: Segments) -> Tensor:
        """(rows, heads, dim) and twice (rows, kv_heads, dim) -> (rows, heads, dim)."""
        if keys.shape[1] % self.ranks.size == 0:
            keys, values = self.to_heads(keys), self.to_heads(values)
        else:
            wanted = self._wanted(queries.shape[1], keys.shape[1], queries.device)
            keys, values = self.gather(keys)[:, wanted], self.gather(values)[:, wanted]
        mixed: Tensor = self.to_rows(self.mix(self.to_heads(queries), keys, values, segments))
        return mixed

    def _wanted(self, heads: int, kv_heads: int, device: torch.device) -> Tensor:
        """The key-value head of each of this rank's query heads, (heads / size,)."""
        share = heads // self.ranks.size
        first = self.ranks.rank * share
        return torch.arange(first, first + share, device=device) // (heads // kv_heads)

    def _rows_to_heads(self, rows: Tensor) -> Tensor:
        """Own rows of all heads (rows, heads, dim) to all rows of own heads (rows * size, heads / size, dim)."""
        num_rows, heads, dim = rows.shape
        parts = rows.reshape(num_rows, self.ranks.size, heads // self.ranks.size, dim).transpose(0, 1)
        return self.ranks.all_to_all(parts).flatten(0, 1)

    def _heads_to_rows(self, rows: Tensor) -> Tensor:
        """The way back: (rows * size, heads / size, dim) to (rows, heads, dim)."""
        num_rows, heads, dim = rows.shape
        parts = rows.reshape(self.ranks.size, num_rows // self.ranks.size, heads, dim)
        return self.ranks.all_to_all(parts).transpose(0, 1).flatten(1, 2)
