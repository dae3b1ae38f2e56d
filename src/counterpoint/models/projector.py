"""The last part of an encoder: merged patches in the width of the module that reads them."""

from typing import final

from torch import Tensor, nn

from counterpoint.models.batch import Batch
from counterpoint.models.linear import Linear
from counterpoint.models.mlp import Mlp, gelu


def merge_patches(rows: Tensor, group: int) -> Tensor:
    """Lay each group of consecutive rows side by side: (rows, hidden) -> (rows / group, group * hidden)."""
    return rows.reshape(rows.shape[0] // group, group * rows.shape[1])


@final
class MlpProjector(nn.Module):
    """Merge, norm, linear, GELU, linear: (rows, hidden) -> (rows / group, outputs)."""

    def __init__(self, group: int, norm: nn.Module, inputs: int, ffn: int, outputs: int) -> None:
        super().__init__()
        self.group = group
        self.norm = norm
        self.mlp = Mlp(inputs, ffn, outputs, gelu, bias=True)

    def forward(self, rows: Tensor, _batch: Batch) -> Tensor:
        out: Tensor = self.mlp(self.norm(merge_patches(rows, self.group)))
        return out


@final
class LinearProjector(nn.Module):
    """Merge, norm, linear: (rows, hidden) -> (rows / group, outputs)."""

    def __init__(self, group: int, norm: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.group = group
        self.norm = norm
        self.linear = Linear(inputs, outputs, bias=True)

    def forward(self, rows: Tensor, _batch: Batch) -> Tensor:
        out: Tensor = self.linear(self.norm(merge_patches(rows, self.group)))
        return out
