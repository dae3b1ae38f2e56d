"""The loss over a vocabulary that is cut over the ranks of a tensor-parallel group."""

from torch import Tensor

from counterpoint.models.linear_loss import LinearLoss, WordShare
from counterpoint.parallelize.exchange import TensorGroup


def sharded_loss(ranks: TensorGroup, first: int, words: int) -> LinearLoss:
    """A loss from rows (rows, hidden) that all ranks hold and this rank's `words` words from `first` on.

    It is the same scalar on every rank. Further rows of the rank's matrix are padding. The gradient of the rows is this
    rank's part of a sum.
    """

    def gather(statistics: Tensor) -> Tensor:
        return ranks.all_gather(statistics[None])

    return LinearLoss(WordShare(first, words, gather))
