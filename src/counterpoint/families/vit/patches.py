"""Patch embedding: a linear map of pixels, learned positions, and learned prefix rows before each image."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.families.vit.spec import PositionFit
from counterpoint.models.batch import PatchBatch
from counterpoint.models.linear import Linear
from counterpoint.models.multiply import ReadTable


@final
class PositionTable(nn.Module):
    """A learned side x side table of positions, interpolated bilinearly to the grid of each image.

    Each row equals `F.interpolate(table, grid, mode="bilinear")` at its patch: `align_corners=False` for the fit
    `stretch`, the same over the square around the image for `crop`, `align_corners=True` for `corners`.
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
        # Multiply before dividing: then places are exact if the image has the same grid as the table.
        if self.fit == "corners":
            return places * (self.side - 1) / (grids - 1).clamp(min=1)
        extents = grids.amax(dim=1, keepdim=True) if self.fit == "crop" else grids
        return (places + 0.5) * self.side / extents.clamp(min=1) - 0.5

    def _at(self, row: Tensor, column: Tensor) -> Tensor:
        rows: Tensor = self.read(self.weight, row * self.side + column)
        return rows


@final
class FilteredPositions(nn.Module):
    """A learned side x side table of positions, interpolated with antialiasing to the grid of each image.

    Each row equals `F.interpolate(table, grid, mode="bilinear", antialias=True)` at its patch. Every patch weights all
    entries, which is only efficient for small tables.
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
        """The weights of the table's rows and columns for each patch, (rows, 2, side), which sum to one over `side`."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        step = self.side / grids.clamp(min=1).to(wide)[:, :, None]
        width = step.clamp(min=1)
        center = (coordinates.to(wide)[:, :, None] + 0.5) * step
        entries = torch.arange(self.side, device=center.device, dtype=wide)
        shares = (1 - (entries + 0.5 - center).abs() / width).clamp(min=0)
        return shares / shares.sum(dim=2, keepdim=True)


@final
class PrefixTable(nn.Module):
    """Learned rows, such as class and register tokens, at the rows that the batch reserves for them."""

    def __init__(self, entries: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, hidden))
        self.read: nn.Module = ReadTable()

    def forward(self, rows: Tensor, batch: PatchBatch) -> Tensor:
        """Replace rows (rows, hidden) with entry `batch.prefix` of the table, except where that is NO_PREFIX."""
        learned = self.read(self.weight, batch.prefix.clamp(min=0))
        return torch.where((batch.prefix >= 0)[:, None], learned, rows)


@final
class Unchanged(nn.Module):
    """The identity on rows."""

    def forward(self, rows: Tensor, _batch: PatchBatch) -> Tensor:
        return rows


@final
class PatchEmbedding(nn.Module):
    """The first part of a vision transformer: batch -> rows (rows, hidden)."""

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
