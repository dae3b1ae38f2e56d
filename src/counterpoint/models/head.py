"""The last part of a decoder: from rows to the loss, or to logits."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.attached import attach
from counterpoint.models.batch import MtpInputs, TextBatch
from counterpoint.models.embedding import WordTable
from counterpoint.models.linear_loss import LinearLoss, RowLosses
from counterpoint.models.multiply import Multiply
from counterpoint.models.scored import scored_rows
from counterpoint.models.seams import FURTHER, TERMS, Enter, Reporting, WithResults


class VocabularyHead(Reporting, ABC):
    """Scores rows (rows, hidden) against every word of a vocabulary matrix, which subclasses provide.

    With multi-token prediction, input rows are the concatenation of the rows of all depths, (rows, (1 + depths) *
    hidden). The losses of further depths join backward with the weight `mtp_weight`, but not the returned loss; they
    are reported as FURTHER (depths,). Terms such as z-loss join the loss of every depth; those of the next token are
    reported as TERMS (terms,).
    """

    results = (FURTHER, TERMS)

    def __init__(self, mtp_weight: float) -> None:
        super().__init__()
        self.mtp_weight = mtp_weight
        self.enter: nn.Module = Enter()
        self.multiply: nn.Module = Multiply()
        self.loss: nn.Module = LinearLoss()

    @abstractmethod
    def matrix(self) -> Tensor:
        """The vocabulary matrix (vocab, hidden)."""

    def logits(self, rows: Tensor) -> Tensor:
        """Logits (rows, vocab); under tensor parallelism those of the rank's shard of the vocabulary."""
        scores: Tensor = self.multiply(self.enter(rows), self.matrix(), None)
        return scores

    def forward(self, rows: Tensor, batch: TextBatch) -> WithResults:
        """The loss of the batch, a scalar."""
        main, *further = torch.split(rows, self.matrix().shape[1], dim=1)
        depths = []
        for ahead, inputs in zip(further, batch.mtp, strict=True):
            loss = self._losses(ahead, inputs).loss
            depths.append(loss.detach())
            main = attach(main, loss * self.mtp_weight)
        losses = self._losses(main, batch)
        results = {FURTHER: torch.stack(depths)} if depths else {}
        return WithResults(losses.loss, results | ({TERMS: losses.terms} if losses.terms.numel() else {}))

    def _losses(self, rows: Tensor, of: TextBatch | MtpInputs) -> RowLosses:
        entered, of = scored_rows(self.enter(rows), of)
        losses: RowLosses = self.loss(entered, self.matrix(), of.labels, of.loss_denominator)
        return losses


@final
class Head(VocabularyHead):
    """A head with its own vocabulary matrix."""

    def __init__(self, vocab: int, hidden: int, mtp_weight: float = 0.0) -> None:
        super().__init__(mtp_weight)
        self.weight = nn.Parameter(torch.empty(vocab, hidden))

    def matrix(self) -> Tensor:
        return self.weight


@final
class TiedHead(VocabularyHead):
    """A head without parameters, which reads the weight of the embedding, or of its copy, in the same chain."""

    def __init__(self, words: WordTable, mtp_weight: float = 0.0) -> None:
        super().__init__(mtp_weight)
        # In a tuple, `words` is no submodule: its weight keeps one name, and moving the head cannot untie it.
        self.tied = (words,)

    def matrix(self) -> Tensor:
        return self.tied[0].matrix()
