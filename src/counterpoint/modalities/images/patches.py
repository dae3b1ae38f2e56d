"""The patches of an image, from its pictures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast, final

import numpy as np

from counterpoint.kinds.arrays import Floats, Ints
from counterpoint.modalities.images.pictures import read_scaled
from counterpoint.modalities.images.spec import IMAGES, ImageConfig, ImageIntake

Pixels = Callable[[bytes, int, int, ImageIntake], Floats]
"""From the bytes of a picture, and its height and width as indexed, to values of (height, width, channels) of its grid;
raises DataError if they are bad, or it is not of that size."""


@final
@dataclass(frozen=True, slots=True)
class PatchPayload:
    """One image of a `kind`: `patches` (rows_in, columns) and their `grid` (rows, columns).

    Rows come in groups of merge x merge neighbours, so that a merge reads consecutive rows.
    """

    patches: Floats
    grid: tuple[int, int]
    kind: str = IMAGES.name

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.patches)

    @property
    def cells(self) -> int:
        """Number of places in its grid."""
        return self.grid[0] * self.grid[1]

    @property
    def described(self) -> str:
        """The shape of the rows, in words."""
        return f"{self.rows} patches on a grid {self.grid[0]}x{self.grid[1]}"


def read_pixels(data: bytes, height: int, width: int, intake: ImageIntake) -> Floats:
    """One picture scaled to its grid, (height, width, channels), transparency on white; see `Pixels`."""
    image = cast(ImageConfig, intake.image)
    rows, columns = intake.grid(height, width)
    pixels = read_scaled(
        data,
        (height, width),
        (rows * intake.patch, columns * intake.patch),
        image.scaling.resampling,
        view=intake.view(height, width),
        channels=intake.channels,
        reduce=image.reduce,
        most_pixels=image.max_pixels,
        rounded=image.scaling.rounded,
    )
    scaling = image.scaling
    mean, std = (np.array(one[: intake.channels], dtype=np.float32) for one in (scaling.mean, scaling.std))
    return np.asarray((pixels.astype(np.float32) / 255 - mean) / std, dtype=np.float32)


def read_patches(
    pictures: Sequence[bytes], height: int, width: int, intake: ImageIntake, pixels: Pixels = read_pixels
) -> PatchPayload:
    """The patch rows of pictures that `pixels` reads; raises DataError as it does.

    There are at most `frames` pictures; the last one fills the remaining frames.
    """
    assert 0 < len(pictures) <= intake.frames, "an item is made of as many pictures as a patch has"
    shown = [pixels(data, height, width, intake) for data in pictures]
    shown += shown[-1:] * (intake.frames - len(shown))
    patches = cut_patches(np.stack(shown), intake.patch, intake.merge)
    return PatchPayload(patches, intake.grid(height, width), intake.kind)


def cut_patches(pixels: Floats, patch: int, merge: int) -> Floats:
    """Cut (frames, height, width, channels) into (rows, channels * frames * patch * patch), each merge group
    consecutive."""
    frames, height, width, channels = pixels.shape
    rows, columns = height // (patch * merge), width // (patch * merge)
    cut = pixels.reshape(frames, rows, merge, patch, columns, merge, patch, channels)
    ordered = cut.transpose(1, 4, 2, 5, 7, 0, 3, 6)
    return np.ascontiguousarray(ordered.reshape(rows * columns * merge**2, channels * frames * patch**2))


def grid_coordinates(rows: int, columns: int, merge: int) -> Ints:
    """The (row, column) of every patch of a grid, (rows * columns, 2), each merge group consecutive."""
    places = np.moveaxis(np.indices((rows, columns), dtype=np.int64), 0, -1)
    cut = places.reshape(rows // merge, merge, columns // merge, merge, 2)
    return np.ascontiguousarray(cut.transpose(0, 2, 1, 3, 4).reshape(rows * columns, 2))
