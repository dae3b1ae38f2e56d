"""Which experts see a row, and what their answers weigh."""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from counterpoint.models.multiply import Multiply
from counterpoint.models.seams import Wide, widened
from counterpoint.plan.sizes import MoeSizes

_SMALLEST_SUM = 1e-20


class Choice(NamedTuple):
    """A router's word on rows: `experts` int64 (rows, top_k), their `weights` (rows, top_k), and `shares` (rows,
    experts), each row's scores of all experts divided by their sum."""

    experts: Tensor
    weights: Tensor
    shares: Tensor


@final
class Router(Wide):
    """Scores each row against every expert and chooses the best; of equal scores the lower expert wins.

    The expert bias takes part in the choice and not in the weights (Wang et al., 2024, arXiv:2408.15664).
    """

    def __init__(self, hidden: int, sizes: MoeSizes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(sizes.experts, hidden))
        self.multiply: nn.Module = Multiply()
        self.bias: Tensor | None
        self.register_buffer("bias", None if sizes.bias_rate is None else torch.empty(sizes.experts))
        self.sizes = sizes

    def forward(self, rows: Tensor) -> Choice:
        """rows (rows, hidden), normed -> the choice, in at least float32."""
        sizes = self.sizes
        scores = self.scores(rows)
        wanted = scores.detach() if self.bias is None else scores.detach() + self.bias
        # topk does not say which of equal ones it takes.
        experts = wanted.sort(dim=1, descending=True, stable=True).indices[:, : sizes.top_k]
        weights = scores.gather(1, experts)
        if sizes.normalize:
            weights = weights / (weights.sum(dim=1, keepdim=True) + _SMALLEST_SUM)
        shares = scores if sizes.router == "softmax" else scores / (scores.sum(dim=1, keepdim=True) + _SMALLEST_SUM)
        return Choice(experts, weights * sizes.scale, shares)

    def scores(self, rows: Tensor) -> Tensor:
        """Scores (rows, experts) without the expert bias."""
        logits: Tensor = self.multiply(widened(rows), self.weight, None)
        return logits.softmax(dim=1) if self.sizes.router == "softmax" else logits.sigmoid()


def next_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """The expert bias after a step in which expert i saw counts[i] rows: up by `rate` below the mean, down above it."""
    mean = counts.double().mean()
    return bias + rate * (mean - counts.double()).sign().to(bias.dtype)
