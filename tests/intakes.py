"""What enters towers whose sizes a test has: intakes, and batches of items without a source."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.lane import Laid, Lane
from counterpoint.modalities.rows import pack_items
from counterpoint.models.batch import Batch, PatchBatch
from counterpoint.plan.samples import Item
from counterpoint.plan.sizes import ImageSizes, VitSizes

MANY = 2**12
"""Patches that no image of a test exceeds."""


def image_intake(sizes: ImageSizes, module: str = "vision") -> ImageIntake:
    """How images enter a tower, at their own size."""
    frames = sizes.frames if isinstance(sizes, VitSizes) else 1
    return ImageIntake(
        module, ImageConfig(max_patches=MANY), patch=sizes.patch, merge=sizes.merge, channels=sizes.channels,
        frames=frames, prefix=sizes.prefix, window=sizes.window,
    )  # fmt: skip


def with_image(intake: ImageIntake, **values: Any) -> ImageIntake:
    """The same with other values in its section."""
    return replace(intake, image=intake.image.model_copy(update=values))


def laid_image(row: int, grid: tuple[int, int], merge: int) -> Laid:
    """An image of a grid of patches, from a row on."""
    return Laid(row, grid[0] * grid[1], grid[1] // merge)


def image_item(payload: PatchPayload, sizes: ImageSizes, position: int = 0, module: str = "vision") -> Item:
    """What the plan knows of an image."""
    rows, columns = payload.rows // sizes.merge**2, payload.grid[1] // sizes.merge
    return Item(module, position, payload.rows, rows, columns)


def image_batch(sizes: ImageSizes, images: Sequence[Laid], patches: Tensor) -> PatchBatch:
    """Images that lie among rows of patches, in one process."""
    rows = slice(0, len(patches))
    lane: Lane[PatchPayload] = Lane(len(patches), images, (), rows, rows)
    return replace(ImageRows(image_intake(sizes)).batch(lane, patches.dtype), patches=patches)


def pack_images(payloads: Sequence[PatchPayload], sizes: ImageSizes, dtype: torch.dtype) -> tuple[Batch, Tensor]:
    """Whole images behind each other, and the rows of what leaves the tower that belong to them."""
    return pack_items(image_intake(sizes), [(image_item(one, sizes), one) for one in payloads], dtype)
