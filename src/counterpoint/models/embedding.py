"""The embedding of tokens, to which features of other modules are added at placeholders."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import TextBatch
from counterpoint.models.multiply import ReadTable
from counterpoint.models.seams import LookupLeave


@final
class Lookup(nn.Module):
    """Looks up rows of a table whose first id is `first`; ids outside the table give zeros without a gradient."""

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self.first = first
        self.read: nn.Module = ReadTable()
        self.leave: nn.Module = LookupLeave()

    def forward(self, weight: Tensor, ids: Tensor) -> Tensor:
        """Look up ids int64 (rows,) in weight (words, hidden) -> (rows, hidden)."""
        local = ids - self.first
        inside = (local >= 0) & (local < weight.shape[0])
        rows: Tensor = self.leave(self.read(weight, local.where(inside, 0)) * inside[:, None])
        return rows


def scaled(words: Tensor, scale: float) -> Tensor:
    """Embedded words (rows, hidden), multiplied by a factor."""
    return words if scale == 1.0 else words * scale


class WordTable(nn.Module, ABC):
    """A part whose vocabulary matrix other parts of the chain read."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """The vocabulary matrix (vocab, hidden), or a rank's shard of it."""


@final
class Embedding(WordTable):
    """The first part of a decoder: batch -> rows (rows, hidden).

    Embedded words are multiplied by `scale`; features of other modules are not.
    """

    def __init__(self, vocab: int, hidden: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, hidden))
        self.scale = scale
        self.lookup: nn.Module = Lookup()

    def matrix(self) -> Tensor:
        return self.weight

    def forward(self, _rows: Tensor | None, batch: TextBatch) -> Tensor:
        rows = scaled(self.lookup(self.weight, batch.ids), self.scale)
        for features, index in batch.inserts:
            rows = rows.index_add(0, index, features.to(rows.dtype))
        return rows


@final
class WordsCopy(WordTable):
    """A copy of the embedding's weight in another stage, for a tied head; rows pass through unchanged.

    The trainer sums the gradients of both.
    """

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, hidden))

    def matrix(self) -> Tensor:
        return self.weight

    def forward(self, rows: Tensor, _batch: TextBatch) -> Tensor:
        return rows


@final
class NoCopy(nn.Module):
    """Takes the place of the copy if the embedding itself is in the chain."""

    def forward(self, rows: Tensor, _batch: TextBatch) -> Tensor:
        return rows
