"""Adding features of other modules to rows."""

from collections.abc import Iterable
from typing import final

from torch import Tensor, nn

from counterpoint.models.batch import Insert, TextBatch
from counterpoint.models.seams import OwnRows, StageEnter


def insert(rows: Tensor, inserts: Iterable[Insert]) -> Tensor:
    """Add features to rows (rows, hidden) at the rows that each insert names."""
    for features, index in inserts:
        rows = rows.index_add(0, index, features.to(rows.dtype))
    return rows


@final
class DeepInsert(nn.Module):
    """The part after layer `layer` that adds features of another encoder depth (Meng et al., 2024, arXiv:2406.04334).

    Features are scattered into the process's own rows, then enter like the input rows of a stage. Every rank takes part
    in that, with features or without.
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
