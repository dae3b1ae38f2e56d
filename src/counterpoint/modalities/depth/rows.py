"""Depth maps as rows: images whose values are distances."""

from typing import cast

import numpy as np
from PIL import Image

from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.depth.maps import read_map
from counterpoint.modalities.depth.spec import DepthConfig
from counterpoint.modalities.images.rows import ImageRows
from counterpoint.modalities.images.spec import ImageIntake


def depth_rows(intake: ImageIntake) -> ImageRows:
    """The handler of depth maps for a module; one that cannot be read is replaced by one without measurements."""
    return ImageRows(intake, read_distances)


def read_distances(data: bytes, height: int, width: int, intake: ImageIntake) -> Floats:
    """One depth map scaled to its grid, (height, width, 1).

    Raises DataError if its bytes are bad, or it is not `height` x `width` pixels.
    """
    depth = cast(DepthConfig, intake.image)
    rows, columns = intake.grid(height, width)
    whole = Image.fromarray(read_map(data, (height, width), depth.per_metre, depth.max_pixels))
    metres = np.asarray(whole.resize((columns * intake.patch, rows * intake.patch), Image.Resampling.NEAREST))
    return np.where(metres > 0, _values(metres, depth), np.float32(0))[..., None]


def _values(metres: Floats, depth: DepthConfig) -> Floats:
    near, far, mean, std = (np.float32(value) for value in (depth.near, depth.far, depth.mean, depth.std))
    shares = (np.clip(metres, near, far) - near) / (far - near)
    return np.asarray((shares - mean) / std, dtype=np.float32)
