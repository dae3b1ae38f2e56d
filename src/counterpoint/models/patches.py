"""Patches to rows: a linear map of the pixels plus a learned position."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.batch import PatchBatch
from counterpoint.models.linear import Linear
from counterpoint.models.multiply import ReadTable


@final
class PositionTable(nn.Module):
    """A learned side x side table, read by bilinear interpolation at each patch's place in its own image.

    Row by row it equals `F.interpolate(table, grid, mode="bilinear", align_corners=False)` at that patch.
    """

    def __init__(self, side: int, hidden: int) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.empty(side * side, hidden))
        self.read: nn.Module = ReadTable()

    def forward(self, coordinates: Tensor, grids: Tensor) -> Tensor:
        """Positions (rows, hidden) for coordinates and grids int64 (rows, 2)."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        # Multiplied before divided, the place is exact where the image has the table's own grid.
        place = (coordinates.to(wide) + 0.5) * self.side / grids.clamp(min=1) - 0.5
        place = place.clamp(0, self.side - 1)
        low = place.floor().long()
        far = (place - low).to(self.weight.dtype)
        top, left = low.unbind(1)
        bottom, right = (low + 1).clamp(max=self.side - 1).unbind(1)
        above = torch.lerp(self._at(top, left), self._at(top, right), far[:, 1:])
        below = torch.lerp(self._at(bottom, left), self._at(bottom, right), far[:, 1:])
        return torch.lerp(above, below, far[:, :1])

    def _at(self, row: Tensor, column: Tensor) -> Tensor:
        rows: Tensor = self.read(self.weight, row * self.side + column)
        return rows


@final
class PatchEmbedding(nn.Module):
    """The first part of a vision transformer: it makes rows (rows, hidden) out of the batch."""

    def __init__(self, patch_dim: int, hidden: int, side: int) -> None:
        super().__init__()
        self.patch = Linear(patch_dim, hidden, bias=True)
        self.positions = PositionTable(side, hidden)

    def forward(self, _rows: Tensor | None, batch: PatchBatch) -> Tensor:
        pixels = self.patch(batch.patches.to(self.patch.weight.dtype))
        rows: Tensor = pixels + self.positions(batch.coordinates, batch.grids)
        return rows
