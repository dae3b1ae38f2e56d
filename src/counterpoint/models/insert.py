"""Features of other modules among the rows."""

from collections.abc import Iterable
from typing import final

from torch import Tensor, nn

from counterpoint.models.batch import Insert, TextBatch
from counterpoint.models.seams import OwnRows, StageEnter


def insert(rows: Tensor, inserts: Iterable[Insert]) -> Tensor:
    """Add features to the rows (rows, hidden) where they belong."""
    for features, index in inserts:
        rows = rows.index_add(0, index, features.to(rows.dtype))
    return rows


@final
class DeepInsert(nn.Module):
    """The part after layer `layer` that adds the features of another depth (Meng et al., 2024, arXiv:2406.04334).

    Features reach a process's own rows, like rows a stage. They are gathered where rows are, even if there are none,
    so that every rank does the same.
    """

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.own_rows: nn.Module = OwnRows()
        self.enter: nn.Module = StageEnter()

    def forward(self, rows: Tensor, batch: TextBatch) -> Tensor:
        own = rows.new_zeros((self.own_rows(rows.shape[0]), rows.shape[1]))
        out: Tensor = rows + self.enter(insert(own, batch.deep.get(self.layer, ())))
        return out
