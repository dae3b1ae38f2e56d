"""Images as rows: how they are read, replaced where unreadable, and laid out in a lane from their grids alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from counterpoint.kinds.arrays import Floats, Ints
from counterpoint.kinds.modality import Extent
from counterpoint.modalities.images.patches import PatchPayload, Pixels, grid_coordinates, read_patches, read_pixels
from counterpoint.modalities.images.spec import ImageIntake
from counterpoint.modalities.lane import Laid, Lane
from counterpoint.models.batch import NO_PREFIX, PatchBatch
from counterpoint.models.segments import Windows


@final
@dataclass(frozen=True, slots=True)
class ImageRows:
    """How images enter a module; `pixels` reads a picture."""

    intake: ImageIntake
    pixels: Pixels = read_pixels

    def read(self, files: Sequence[bytes], extent: Extent) -> PatchPayload:
        """The rows of an item's encoded pictures; raises DataError if one cannot be decoded or is not of the indexed
        size."""
        height, width = extent[:2]
        return read_patches(files, height, width, self.intake.of(extent), self.pixels)

    def neutral(self, extent: Extent) -> PatchPayload:
        """The rows of a grey image of this size."""
        return self._payload(extent, np.zeros(self._shape(extent), dtype=np.float32))

    def noise(self, generator: np.random.Generator, extent: Extent) -> PatchPayload:
        """The rows of an image of this size whose values are uniform in [-1, 1)."""
        return self._payload(extent, generator.random(self._shape(extent), dtype=np.float32) * 2 - 1)

    def batch(self, lane: Lane[PatchPayload], dtype: torch.dtype) -> PatchBatch:
        """The patches of the process's own rows, and the places of all rows."""
        intake = self.intake
        places = lay_images(lane.items, lane.rows, intake)
        patches = np.zeros((lane.own_rows, intake.columns), dtype=np.float32)
        for own in lane.own:
            patches[own.here] = own.payload.patches[own.there]
        inside = lane.inside(intake.prefix)
        return PatchBatch(
            patches=torch.from_numpy(patches).to(dtype),
            coordinates=torch.from_numpy(places.coordinates[lane.shard]),
            grids=torch.from_numpy(places.grids[lane.shard]),
            prefix=torch.from_numpy(places.prefix[lane.shard]),
            places=torch.from_numpy(places.coordinates[lane.piece]),
            segments=lane.segments(intake.prefix),
            windows=image_windows(lane.items, intake, None if inside is None else image_windows(inside, intake)),
            images=tuple((image.row, *grid_of(image, intake.merge)) for image in lane.items),
        )

    def _shape(self, extent: Extent) -> tuple[int, int]:
        return self.intake.place(extent).rows_in, self.intake.columns

    def _payload(self, extent: Extent, patches: Floats) -> PatchPayload:
        height, width = extent[:2]
        return PatchPayload(patches, self.intake.of(extent).grid(height, width), self.intake.kind)


class Places(NamedTuple):
    """For each row the coordinates of its patch (rows, 2), the grid of its image (rows, 2), and the number of the
    learned row in its place, if any, (rows,)."""

    coordinates: Ints
    grids: Ints
    prefix: Ints


def grid_of(image: Laid, merge: int) -> tuple[int, int]:
    """The patch grid (rows, columns) of an image from the columns of its merged cells."""
    assert image.columns is not None, "an image has a height and a width"
    columns = image.columns * merge
    return image.rows // columns, columns


def lay_images(images: Sequence[Laid], rows: int, intake: ImageIntake) -> Places:
    """The places of `rows` rows with some images, each after the module's learned rows."""
    coordinates = np.zeros((rows, 2), dtype=np.int64)
    grids = np.ones((rows, 2), dtype=np.int64)
    prefix = np.full(rows, NO_PREFIX, dtype=np.int64)
    for image in images:
        own, grid = slice(image.row, image.row + image.rows), grid_of(image, intake.merge)
        coordinates[own], grids[own] = grid_coordinates(*grid, intake.merge), grid
        prefix[image.row - intake.prefix : image.row] = np.arange(intake.prefix)
    return Places(coordinates, grids, prefix)


def image_windows(images: Sequence[Laid], intake: ImageIntake, own: Windows | None = None) -> Windows:
    """The windows of images, None for a model without windows; those at the right and lower edges are smaller."""
    groups: list[Tensor] = []
    for image in images if intake.window else ():
        rows, columns = grid_coordinates(*grid_of(image, intake.merge), intake.merge).T // intake.window
        windows = rows * (columns.max() + 1) + columns
        groups += [torch.from_numpy(np.flatnonzero(windows == n) + image.row) for n in range(windows.max() + 1)]
    return Windows.build(groups, own)
