"""Groups of heads of which several ranks hold the same: what each rank's share of the heads reads."""

from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoint.models.seams import Mix, Trade
from counterpoint.models.segments import Sampled, Segments, Windows


def groups_read(share: int, shares: int, heads: int, groups: int, device: torch.device) -> Tensor:
    """The groups that one of `shares` equal shares of `heads` heads reads, int64: each once where they divide evenly,
    else one for every head."""
    if groups % shares == 0:
        return torch.arange(groups, device=device).view(shares, -1)[share]
    size = heads // shares
    return torch.arange(share * size, (share + 1) * size, device=device) // (heads // groups)


@final
class OwnGroups(nn.Module):
    """`mix` on a tensor-parallel rank's heads, which read some of the groups that it holds together with others.

    Of its inputs, those of groups (rows, groups, ...) are given to it as one for every head, which need not be equally
    many for all groups.
    """

    def __init__(self, mix: Mix[Any], rank: int, holders: int) -> None:
        super().__init__()
        self.mix = mix
        self.share = rank % holders
        self.holders = holders
        self.trades = mix.trades

    def forward(self, inputs: tuple[Tensor, ...], segments: Segments | Windows | Sampled) -> Tensor:
        heads = inputs[self.trades.index(Trade.HEADS)].shape[1] * self.holders
        given = zip(inputs, self.trades, strict=True)
        own = tuple(self._read(one, heads) if trade is Trade.GROUPS else one for one, trade in given)
        mixed: Tensor = self.mix(own, segments)
        return mixed

    def _read(self, rows: Tensor, heads: int) -> Tensor:
        return rows[:, groups_read(self.share, self.holders, heads, rows.shape[1], rows.device)]
