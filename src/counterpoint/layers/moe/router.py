"""The router of a mixture of experts: the chosen experts of each row, and their weights."""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.models.multiply import Multiply
from counterpoint.models.seams import Fusible, Wide, widened

_SMALLEST_SUM = 1e-20


class Choice(NamedTuple):
    """The routing of rows: `experts` int64 (rows, top_k), their `weights` (rows, top_k), `shares` (rows, experts), the
    scores of all experts divided by their sum, and `counts` int64 (experts,), the rows that chose each expert."""

    experts: Tensor
    weights: Tensor
    shares: Tensor
    counts: Tensor


@final
class Router(Wide, Fusible):
    """Scores each row against every expert and chooses the `top_k` best; ties go to the lower expert.

    The expert bias changes the choice, not the weights (Wang et al., 2024, arXiv:2408.15664). With `is_even` rows
    choose all experts equally often, whatever their scores, which still weigh: for measurements of speed.
    """

    regions = ("choose",)

    def __init__(self, hidden: int, section: MoeConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(section.experts, hidden))
        self.multiply: nn.Module = Multiply()
        self.bias: Tensor | None
        self.register_buffer("bias", None if section.bias_rate is None else torch.empty(section.experts))
        self.top_k, self.normalize, self.scale = section.top_k, section.normalize, section.scale
        self.kind = section.router
        self.is_even = False

    def forward(self, rows: Tensor) -> Choice:
        """Normed rows (rows, hidden) -> their routing, in at least float32."""
        return self.choose(self.multiply(widened(rows), self.weight, None), self.bias)

    def choose(self, logits: Tensor, bias: Tensor | None) -> Choice:
        """Logits (rows, experts) -> the routing of their rows."""
        scores = self._scores(logits)
        detached = scores.detach()
        experts = self._even(detached) if self.is_even else self._best(detached if bias is None else detached + bias)
        weights = scores.gather(1, experts)
        if self.normalize:
            weights = weights / (weights.sum(dim=1, keepdim=True) + _SMALLEST_SUM)
        shares = scores if self.kind == "softmax" else scores / (scores.sum(dim=1, keepdim=True) + _SMALLEST_SUM)
        # Adding ones at their places would be compiled into a sort: GPUs have no atomic addition of such integers.
        counts = (experts[:, :, None] == torch.arange(scores.shape[1], device=experts.device)).sum(dim=(0, 1))
        return Choice(experts, weights * self.scale, shares, counts)

    def scores(self, rows: Tensor) -> Tensor:
        """Scores (rows, experts) without the expert bias."""
        return self._scores(self.multiply(widened(rows), self.weight, None))

    def _scores(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1) if self.kind == "softmax" else logits.sigmoid()

    def _best(self, wanted: Tensor) -> Tensor:
        """The experts int64 (rows, top_k) with the largest values, which is a few fused passes where a sort is many."""
        expert = torch.arange(wanted.shape[1], device=wanted.device)
        best: list[Tensor] = []
        for _choice in range(self.top_k):
            # Of equal values argmax takes the first; topk does not specify which.
            best.append(wanted.argmax(dim=1, keepdim=True))
            wanted = torch.where(expert == best[-1], -torch.inf, wanted)
        return torch.cat(best, dim=1)

    def _even(self, scores: Tensor) -> Tensor:
        """Experts int64 (rows, top_k) in turn; those of a row are far apart, so that they are on several ranks."""
        rows, experts = scores.shape
        row = torch.arange(rows, device=scores.device)[:, None]
        return (row + torch.arange(self.top_k, device=scores.device) * (experts // self.top_k)) % experts


def next_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """The expert bias after a step with counts[i] rows for expert i: raised by `rate` below the mean, lowered above."""
    mean = counts.double().mean()
    return bias + rate * (mean - counts.double()).sign().to(bias.dtype)
