"""What enters the towers of a test: intakes, and batches of items without a source."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from counterpoint.families import intake_of
from counterpoint.kinds.family import Model
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.lane import Laid, Lane
from counterpoint.modalities.rows import pack_items
from counterpoint.models.batch import Batch, PatchBatch
from counterpoint.plan.samples import Item

MANY = 2**12
"""Patches that no image of a test exceeds."""


def image_intake(model: Model, module: str = "vision") -> ImageIntake:
    """How images enter a tower, at their own size."""
    section = model.section.model_copy(update={"image": ImageConfig(max_patches=MANY)})
    intake = intake_of(module, section, mark="<image>")
    assert isinstance(intake, ImageIntake)
    return intake


def with_image(intake: ImageIntake, **values: Any) -> ImageIntake:
    """The same with other values in its section."""
    return replace(intake, image=intake.image.model_copy(update=values))


def laid_image(row: int, grid: tuple[int, int], merge: int) -> Laid:
    """An image of a grid of patches, from a row on."""
    return Laid(row, grid[0] * grid[1], grid[1] // merge)


def image_item(payload: PatchPayload, model: Model, position: int = 0, module: str = "vision") -> Item:
    """What the plan knows of an image."""
    merge = image_intake(model).merge
    return Item(module, position, payload.rows, payload.rows // merge**2, payload.grid[1] // merge)


def image_batch(model: Model, images: Sequence[Laid], patches: Tensor) -> PatchBatch:
    """Images that lie among rows of patches, in one process."""
    rows = slice(0, len(patches))
    lane: Lane[PatchPayload] = Lane(len(patches), images, (), rows, rows)
    return replace(ImageRows(image_intake(model)).batch(lane, patches.dtype), patches=patches)


def pack_images(payloads: Sequence[PatchPayload], model: Model, dtype: torch.dtype) -> tuple[Batch, Tensor]:
    """Whole images behind each other, and the rows of what leaves the tower that belong to them."""
    return pack_items(image_intake(model), [(image_item(one, model), one) for one in payloads], dtype)
