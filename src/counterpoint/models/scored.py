"""Rows that have a label: after the last part that mixes rows, the others are pruned."""

from dataclasses import replace
from typing import TypeVar, final

from torch import Tensor, nn

from counterpoint.models.batch import MtpInputs, TextBatch

Labelled = TypeVar("Labelled", bound=TextBatch | MtpInputs)


def scored_rows(rows: Tensor, of: Labelled) -> tuple[Tensor, Labelled]:
    """Of rows (rows, hidden) those with a label, and the same inputs with these labels alone.

    Whatever else the inputs say of rows is of all of them.
    """
    if of.scored is None:
        return rows, of
    return rows.index_select(0, of.scored), replace(of, labels=of.labels.index_select(0, of.scored), scored=None)


@final
class ScoredRows(nn.Module):
    """Before parts that work row by row up to a head: rows and batch without the rows that have no label."""

    def forward(self, rows: Tensor, batch: TextBatch) -> tuple[Tensor, TextBatch]:
        return scored_rows(rows, batch)


@final
class AllRows(nn.Module):
    """Rows and batch as they are, where a run of parts reaches no head or a process may leave out no row."""

    def forward(self, rows: Tensor, batch: TextBatch) -> tuple[Tensor, TextBatch]:
        return rows, batch
