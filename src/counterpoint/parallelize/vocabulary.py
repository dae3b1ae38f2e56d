"""Cross entropy over a vocabulary whose words are spread over the ranks of a tensor-parallel group."""

from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import NO_LABEL
from counterpoint.models.head import per_token
from counterpoint.parallelize.exchange import TensorGroup


@final
class _ShardedCrossEntropy(torch.autograd.Function):
    """Summed cross entropy from a rank's columns of the logits, the same scalar on every rank.

    The largest logit of the whole row is subtracted, so nothing overflows; the gradient needs no exchange.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, first: int, ranks: TensorGroup) -> Tensor:
        shifted = logits - ranks.all_reduce_max(logits.amax(dim=1))[:, None]
        local = labels - first
        inside = (local >= 0) & (local < logits.shape[1])
        place = local.where(inside, 0)[:, None]
        target = shifted.gather(1, place)[:, 0].where(inside, 0)
        exponentials = shifted.exp()
        sums, targets = ranks.all_reduce(torch.stack((exponentials.sum(dim=1), target), dim=1)).unbind(1)
        counted = labels != NO_LABEL
        ctx.save_for_backward(exponentials / sums[:, None], place, inside, counted)
        return (sums.log() - targets).where(counted, 0).sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        probabilities, place, inside, counted = ctx.saved_tensors
        difference = probabilities.scatter_add(1, place, -inside[:, None].to(probabilities.dtype))
        return difference * counted[:, None] * gradients[0], None, None, None


@final
class ShardedCrossEntropySum(nn.Module):
    """`CrossEntropySum` of logits (rows, local words) whose first column is the word `first`.

    Columns from `words` on are padding and do not take part.
    """

    def __init__(self, ranks: TensorGroup, first: int, words: int) -> None:
        super().__init__()
        self.ranks = ranks
        self.first = first
        self.words = words

    def forward(self, logits: Tensor, labels: Tensor, denominator: float) -> Tensor:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.words < wide.shape[1]:
            padding = torch.arange(wide.shape[1], device=wide.device) >= self.words
            wide = wide.masked_fill(padding, torch.finfo(wide.dtype).min)
        loss: Tensor = _ShardedCrossEntropy.apply(wide, labels, self.first, self.ranks)  # type: ignore[no-untyped-call]
        return per_token(loss, denominator)
