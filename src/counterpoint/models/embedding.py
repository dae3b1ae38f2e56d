"""Tokens to rows, with features of other modules laid in at the placeholders."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import TextBatch
from counterpoint.models.exchange import LookupLeave
from counterpoint.models.multiply import ReadTable


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


@final
class Embedding(nn.Module):
    """The first part of a decoder: it makes rows (rows, hidden) out of the batch."""

    def __init__(self, vocab: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab, hidden))
        self.lookup: nn.Module = Lookup()

    def forward(self, _rows: Tensor | None, batch: TextBatch) -> Tensor:
        rows: Tensor = self.lookup(self.weight, batch.ids)
        for features, index in batch.inserts:
            rows = rows.index_add(0, index, features.to(rows.dtype))
        return rows
