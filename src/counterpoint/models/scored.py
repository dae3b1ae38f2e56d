"""Pruning of rows without a label after the last part that mixes rows."""

from dataclasses import replace
from typing import TypeVar, final

from torch import Tensor, nn

from counterpoint.models.batch import MtpInputs, TextBatch

Labelled = TypeVar("Labelled", bound=TextBatch | MtpInputs)


def scored_rows(rows: Tensor, of: Labelled) -> tuple[Tensor, Labelled]:
    """Rows (rows, hidden) -> those with a label, and the same inputs with the labels of those rows only.

    All other fields of the inputs still describe all rows.
    """
    if of.scored is None:
        return rows, of
    return rows.index_select(0, of.scored), replace(of, labels=of.labels.index_select(0, of.scored), scored=None)


@final
class ScoredRows(nn.Module):
    """Before the row-wise parts that end in a head: prunes rows without a label from rows and batch."""

    def forward(self, rows: Tensor, batch: TextBatch) -> tuple[Tensor, TextBatch]:
        return scored_rows(rows, batch)


@final
class AllRows(nn.Module):
    """Keeps all rows: for chains that do not end in a head, and where ranks must keep equal numbers of rows."""

    def forward(self, rows: Tensor, batch: TextBatch) -> tuple[Tensor, TextBatch]:
        return rows, batch
