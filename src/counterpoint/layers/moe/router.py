"""The router of a mixture of experts: the chosen experts of each row, and their weights."""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.models.multiply import Multiply
from counterpoint.models.seams import Wide, widened

_SMALLEST_SUM = 1e-20


class Choice(NamedTuple):
    """The routing of rows: `experts` int64 (rows, top_k), their `weights` (rows, top_k), and `shares` (rows, experts),
    the scores of all experts divided by their sum."""

    experts: Tensor
    weights: Tensor
    shares: Tensor


@final
class Router(Wide):
    """Scores each row against every expert and chooses the `top_k` best; ties go to the lower expert.

    The expert bias changes the choice, not the weights (Wang et al., 2024, arXiv:2408.15664).
    """

    def __init__(self, hidden: int, section: MoeConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(section.experts, hidden))
        self.multiply: nn.Module = Multiply()
        self.bias: Tensor | None
        self.register_buffer("bias", None if section.bias_rate is None else torch.empty(section.experts))
        self.top_k, self.normalize, self.scale = section.top_k, section.normalize, section.scale
        self.kind = section.router

    def forward(self, rows: Tensor) -> Choice:
        """Normed rows (rows, hidden) -> their routing, in at least float32."""
        scores = self.scores(rows)
        wanted = scores.detach() if self.bias is None else scores.detach() + self.bias
        # topk does not specify the order of ties.
        experts = wanted.sort(dim=1, descending=True, stable=True).indices[:, : self.top_k]
        weights = scores.gather(1, experts)
        if self.normalize:
            weights = weights / (weights.sum(dim=1, keepdim=True) + _SMALLEST_SUM)
        shares = scores if self.kind == "softmax" else scores / (scores.sum(dim=1, keepdim=True) + _SMALLEST_SUM)
        return Choice(experts, weights * self.scale, shares)

    def scores(self, rows: Tensor) -> Tensor:
        """Scores (rows, experts) without the expert bias."""
        logits: Tensor = self.multiply(widened(rows), self.weight, None)
        return logits.softmax(dim=1) if self.kind == "softmax" else logits.sigmoid()


def next_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """The expert bias after a step with counts[i] rows for expert i: raised by `rate` below the mean, lowered above."""
    mean = counts.double().mean()
    return bias + rate * (mean - counts.double()).sign().to(bias.dtype)
