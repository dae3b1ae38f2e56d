"""Patches to rows: a linear map of the pixels, a learned position, and learned rows in front of each image."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.families.vit.spec import PositionFit
from counterpoint.models.batch import PatchBatch
from counterpoint.models.linear import Linear
from counterpoint.models.multiply import ReadTable


@final
class PositionTable(nn.Module):
    """A learned side x side table, read by bilinear interpolation at each patch's place in its own image.

    Row by row it equals `F.interpolate(table, grid, mode="bilinear")` at that patch: with `align_corners=False` for
    the fit `stretch`, of the square around the image for `crop`, with `align_corners=True` for `corners`.
    """

    def __init__(self, side: int, hidden: int, fit: PositionFit) -> None:
        super().__init__()
        self.side = side
        self.fit = fit
        self.weight = nn.Parameter(torch.empty(side * side, hidden))
        self.read: nn.Module = ReadTable()

    def forward(self, rows: Tensor, batch: PatchBatch) -> Tensor:
        """Add positions to rows (rows, hidden)."""
        place = self._places(batch.coordinates, batch.grids).clamp(0, self.side - 1)
        low = place.floor().long()
        far = (place - low).to(self.weight.dtype)
        top, left = low.unbind(1)
        bottom, right = (low + 1).clamp(max=self.side - 1).unbind(1)
        above = torch.lerp(self._at(top, left), self._at(top, right), far[:, 1:])
        below = torch.lerp(self._at(bottom, left), self._at(bottom, right), far[:, 1:])
        return rows + torch.lerp(above, below, far[:, :1])

    def _places(self, coordinates: Tensor, grids: Tensor) -> Tensor:
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        places = coordinates.to(wide)
        # Multiplied before divided, the place is exact where the image has the table's own grid.
        if self.fit == "corners":
            return places * (self.side - 1) / (grids - 1).clamp(min=1)
        extents = grids.amax(dim=1, keepdim=True) if self.fit == "crop" else grids
        return (places + 0.5) * self.side / extents.clamp(min=1) - 0.5

    def _at(self, row: Tensor, column: Tensor) -> Tensor:
        rows: Tensor = self.read(self.weight, row * self.side + column)
        return rows


@final
class FilteredPositions(nn.Module):
    """A learned side x side table whose entries each patch averages with a filter that is as wide as the patch.

    Row by row it equals `F.interpolate(table, grid, mode="bilinear", antialias=True)` at that patch. Every patch weighs
    all entries, so it is for small tables.
    """

    def __init__(self, side: int, hidden: int) -> None:
        super().__init__()
        self.side = side
        self.weight = nn.Parameter(torch.empty(side * side, hidden))

    def forward(self, rows: Tensor, batch: PatchBatch) -> Tensor:
        """Add positions to rows (rows, hidden)."""
        shares = self._shares(batch.coordinates, batch.grids)
        both = shares[:, 0, :, None] * shares[:, 1, None, :]
        return rows + both.flatten(1).to(self.weight.dtype) @ self.weight

    def _shares(self, coordinates: Tensor, grids: Tensor) -> Tensor:
        """What each patch takes of the table's rows and of its columns, (rows, 2, side), each summing to one."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        step = self.side / grids.clamp(min=1).to(wide)[:, :, None]
        width = step.clamp(min=1)
        center = (coordinates.to(wide)[:, :, None] + 0.5) * step
        entries = torch.arange(self.side, device=center.device, dtype=wide)
        shares = (1 - (entries + 0.5 - center).abs() / width).clamp(min=0)
        return shares / shares.sum(dim=2, keepdim=True)


@final
class PrefixTable(nn.Module):
    """Learned rows, such as class and register tokens, in the places that a batch keeps for them."""

    def __init__(self, entries: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, hidden))
        self.read: nn.Module = ReadTable()

    def forward(self, rows: Tensor, batch: PatchBatch) -> Tensor:
        """Rows (rows, hidden) with entry `prefix` of the table where that is one."""
        learned = self.read(self.weight, batch.prefix.clamp(min=0))
        return torch.where((batch.prefix >= 0)[:, None], learned, rows)


@final
class Unchanged(nn.Module):
    """Rows as they are."""

    def forward(self, rows: Tensor, _batch: PatchBatch) -> Tensor:
        return rows


@final
class PatchEmbedding(nn.Module):
    """The first part of a vision transformer: it makes rows (rows, hidden) out of the batch."""

    def __init__(
        self, patch_dim: int, hidden: int, *, bias: bool, positions: nn.Module, prefix: nn.Module, norm: nn.Module
    ) -> None:
        super().__init__()
        self.patch = Linear(patch_dim, hidden, bias=bias)
        self.positions = positions
        self.prefix = prefix
        self.norm = norm

    def forward(self, _rows: Tensor | None, batch: PatchBatch) -> Tensor:
        pixels = self.patch(batch.patches.to(self.patch.weight.dtype))
        rows: Tensor = self.norm(self.prefix(self.positions(pixels, batch), batch))
        return rows
