"""The last part of an encoder that works row by row: merged patches in the width of the module that reads them."""

from typing import final

from torch import Tensor, nn

from counterpoint.models.batch import Batch
from counterpoint.models.seams import Fusible


def merge_patches(rows: Tensor, group: int) -> Tensor:
    """Lay each group of consecutive rows side by side: (rows, hidden) -> (rows / group, group * hidden)."""
    return rows.reshape(rows.shape[0] // group, group * rows.shape[1])


@final
class Projector(Fusible):
    """Merge and norm, then `linear` or `mlp`: (rows, hidden) -> (rows / group, outputs)."""

    regions = ("forward",)

    def __init__(self, group: int, norm: nn.Module, change: tuple[str, nn.Module]) -> None:
        super().__init__()
        self.group = group
        self.norm = norm
        self._change, module = change
        self.add_module(self._change, module)

    def forward(self, rows: Tensor, _batch: Batch) -> Tensor:
        out: Tensor = self.get_submodule(self._change)(self.norm(merge_patches(rows, self.group)))
        return out
