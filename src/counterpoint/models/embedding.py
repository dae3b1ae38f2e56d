"""Tokens to rows, with features of other modules laid in at the placeholders."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import TextBatch
from counterpoint.models.multiply import ReadTable
from counterpoint.models.seams import LookupLeave


@final
class Lookup(nn.Module):
    """Rows of a table that begins at the id `first`; an id outside the table gives zeros and no gradient."""

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
    """The words that were looked up, multiplied by a factor."""
    return words if scale == 1.0 else words * scale


class WordTable(nn.Module, ABC):
    """A part whose words other parts of its chain read."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """The words as (vocab, hidden), or a rank's share of them."""


@final
class Embedding(WordTable):
    """The first part of a decoder: it makes rows (rows, hidden) out of the batch.

    Words are multiplied by `scale`, and features of other modules are added as they are.
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
    """The embedding's words where the embedding is in another stage: a copy of the same values; rows pass as they are.

    Whoever holds both sums their gradients.
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
    """Stands for the copy of the words where the embedding itself is in the chain."""

    def forward(self, rows: Tensor, _batch: TextBatch) -> Tensor:
        return rows
