"""Where the rows of images lie among those of a batch, from their grids alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.images import grid_coordinates
from counterpoint.data.payload import Ints, PatchPayload
from counterpoint.models.batch import NO_PREFIX, PatchBatch
from counterpoint.models.segments import Segments, Windows
from counterpoint.plan.sizes import ImageSizes


class Laid(NamedTuple):
    """An image in a batch: its grid of patches and the first of their rows."""

    grid: tuple[int, int]
    row: int

    @property
    def patches(self) -> int:
        """Rows of its patches."""
        return self.grid[0] * self.grid[1]


class Places(NamedTuple):
    """For each row its patch's coordinates (rows, 2), its image's grid (rows, 2), or the number of the learned row that
    stands there (rows,)."""

    coordinates: Ints
    grids: Ints
    prefix: Ints


def lay_images(images: Sequence[Laid], rows: int, sizes: ImageSizes) -> Places:
    """The places of `rows` rows in which some images lie, each behind the model's learned rows."""
    coordinates = np.zeros((rows, 2), dtype=np.int64)
    grids = np.ones((rows, 2), dtype=np.int64)
    prefix = np.full(rows, NO_PREFIX, dtype=np.int64)
    for image in images:
        own = slice(image.row, image.row + image.patches)
        coordinates[own], grids[own] = grid_coordinates(*image.grid, sizes.merge), image.grid
        prefix[image.row - sizes.prefix : image.row] = np.arange(sizes.prefix)
    return Places(coordinates, grids, prefix)


def image_segments(images: Sequence[Laid], rows: int, sizes: ImageSizes, own: Segments | None = None) -> Segments:
    """Each image with its learned rows, seen by itself."""
    lengths = [sizes.prefix + image.patches for image in images]
    return Segments.build(lengths, rows, starts=[image.row - sizes.prefix for image in images], own=own)


def extents(images: Sequence[Laid]) -> tuple[tuple[int, int, int], ...]:
    """Each image's first row, and the height and width of its grid."""
    return tuple((image.row, *image.grid) for image in images)


def image_windows(images: Sequence[Laid], sizes: ImageSizes, own: Windows | None = None) -> Windows:
    """The windows of images, none for a model that looks into none; those at the right and lower edge are smaller."""
    groups: list[Tensor] = []
    for image in images if sizes.window else ():
        rows, columns = grid_coordinates(*image.grid, sizes.merge).T // sizes.window
        windows = rows * (columns.max() + 1) + columns
        groups += [torch.from_numpy(np.flatnonzero(windows == n) + image.row) for n in range(windows.max() + 1)]
    return Windows.build(groups, own)


def pack_images(payloads: Sequence[PatchPayload], sizes: ImageSizes, dtype: torch.dtype) -> tuple[PatchBatch, Tensor]:
    """Whole images behind each other, and the rows int64 (rows_out,) of what leaves the model that belong to them."""
    group, images, row = sizes.merge**2, list[Laid](), 0
    lead = -(-sizes.prefix // group) * group
    for payload in payloads:
        images.append(Laid(payload.grid, row + lead))
        row = images[-1].row + images[-1].patches
    places = lay_images(images, row, sizes)
    patches = np.zeros((row, sizes.patch_dim), dtype=np.float32)
    for image, payload in zip(images, payloads, strict=True):
        patches[image.row : image.row + image.patches] = payload.patches
    batch = PatchBatch(
        patches=torch.from_numpy(patches).to(dtype),
        coordinates=torch.from_numpy(places.coordinates),
        grids=torch.from_numpy(places.grids),
        prefix=torch.from_numpy(places.prefix),
        places=torch.from_numpy(places.coordinates),
        segments=image_segments(images, row, sizes),
        windows=image_windows(images, sizes),
        images=extents(images),
    )
    kept = [torch.arange(image.row // group, (image.row + image.patches) // group) for image in images]
    return batch, torch.cat([torch.arange(0), *kept])
