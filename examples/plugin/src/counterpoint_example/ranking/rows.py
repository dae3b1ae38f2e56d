"""The contrast of items by rank: of all items at hand, and of one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from counterpoint_example.ranking.spec import RankingSection


def ranking(section: RankingSection, rows: Tensor, targets: Tensor, own: Tensor) -> Tensor:
    """The sum over items' means (n, width) of the loss among targets (m, width), of which `own` int64 (n,) are
    theirs."""
    scores = rows @ targets.T
    behind = section.margin + section.scale * (scores - scores.gather(1, own[:, None]))
    others = torch.arange(len(targets), device=own.device) != own[:, None]
    return (F.softplus(behind) * others).sum() / max(len(targets) - 1, 1)


def plain(section: RankingSection, row: Tensor, targets: Tensor, own: int) -> Tensor:
    """The loss of one item, one target after the other: what `verify` compares it with."""
    losses = [
        torch.log1p(torch.exp(section.margin + section.scale * torch.dot(row, target - targets[own])))
        for number, target in enumerate(targets)
        if number != own
    ]
    return torch.stack(losses).mean() if losses else torch.dot(row, row) * 0
