"""The loss over a vocabulary whose words are spread over the ranks of a tensor-parallel group."""

from torch import Tensor

from counterpoint.models.linear_loss import LinearLoss, WordShare
from counterpoint.parallelize.exchange import TensorGroup


def sharded_loss(ranks: TensorGroup, first: int, words: int) -> LinearLoss:
    """The same scalar on every rank, from rows that all of them hold and a rank's `words` words from `first` on.

    What its matrix holds beyond these is padding. The gradient of the rows is this rank's part of a sum.
    """

    def gather(statistics: Tensor) -> Tensor:
        return ranks.all_gather(statistics[None])

    return LinearLoss(WordShare(first, words, gather))
