"""Images for people: pictures scaled down, and the pixels of a module's patches with the grid drawn over them."""

from collections.abc import Sequence
from itertools import islice
from typing import cast

import numpy as np

from counterpoint.kinds.arrays import Floats
from counterpoint.kinds.modality import Extent
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.pictures import read_scaled
from counterpoint.modalities.images.spec import LARGEST_LIMIT, ImageConfig, ImageIntake
from counterpoint.modalities.preview import LONGER_SIDE, MOST_FRAMES, Picture, beside, fitted

_EXTREME_ASPECT = 20
_LINE = (47, 109, 181)
_LINE_SHARE = 0.45


class ImagePreview:
    """Draws images, and the first frames of videos."""

    def stored(self, files: Sequence[bytes], extent: Extent) -> Picture:
        """The pictures of an item beside each other, upright and on white."""
        height, width = extent
        target = fitted(height, width)
        scaled = (read_scaled(data, (height, width), target, "bicubic", most_pixels=LARGEST_LIMIT) for data in files)
        return beside([np.asarray(pixels, dtype=np.uint8) for pixels in islice(scaled, MOST_FRAMES)])

    def seen(self, payload: PatchPayload, intake: ImageIntake) -> Picture:
        """The pixels after the module's scaling, its normalisation undone, with its patches."""
        scaling = cast(ImageConfig, intake.image).scaling
        mean, std = (np.array(one[: intake.channels], dtype=np.float32) for one in (scaling.mean, scaling.std))
        frames = joined_patches(payload, intake) * std + mean
        return beside([with_grid(frame, intake.patch) for frame in frames[:MOST_FRAMES]])

    def oddity(self, extent: Extent) -> str | None:
        """An aspect ratio that leaves little of the shorter side."""
        shorter, longer = sorted(extent)
        return f"{longer / shorter:.0f} times as long as wide" if longer > _EXTREME_ASPECT * shorter else None


def joined_patches(payload: PatchPayload, intake: ImageIntake) -> Floats:
    """The pixels (frames, height, width, channels) that patches were cut from."""
    (rows, columns), patch, merge = payload.grid, intake.patch, intake.merge
    shape = (rows // merge, columns // merge, merge, merge, intake.channels, intake.frames, patch, patch)
    ordered = payload.patches.reshape(shape).transpose(5, 0, 2, 6, 1, 3, 7, 4)
    return np.ascontiguousarray(ordered.reshape(intake.frames, rows * patch, columns * patch, intake.channels))


def with_grid(values: Floats, patch: int) -> Picture:
    """Values from 0 to 1 (height, width, channels) as pixels, enlarged where they are few, with a line around each
    patch."""
    pixels = (255 * values.clip(0, 1)).round().astype(np.uint8)
    scale = max(1, LONGER_SIDE // max(pixels.shape[:2]))
    large = np.repeat(np.repeat(pixels, scale, axis=0), scale, axis=1)
    drawn = np.repeat(large, 3 // large.shape[2], axis=2)
    lines = np.zeros(drawn.shape[:2], dtype=np.bool_)
    lines[:: patch * scale], lines[:, :: patch * scale] = True, True
    colours = (1 - _LINE_SHARE) * drawn[lines] + _LINE_SHARE * np.array(_LINE)
    drawn[lines] = colours.round().astype(np.uint8)
    return drawn
