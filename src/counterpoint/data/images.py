"""Images as rows: how many patches an image becomes, from its size alone, and the patches themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.config.items import DEFAULT_SCALING, MOST_PIXELS, Scaling
from counterpoint.data.payload import IMAGE, Extent, Floats, Ints, Kind, PatchPayload, Placed, check_rows
from counterpoint.data.pictures import read_scaled
from counterpoint.errors import DataError

CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class ItemSettings:
    """How images enter a module: `merge` x `merge` patches leave as one row.

    `size` is the longer side in pixels after scaling, None for the image's own; `mark` stood for an image in the
    text that was prepared; `scaling` says how pixels become numbers. Where a patch has several `frames` an image is
    shown in each, and as many pictures of a video make one item. Raises DataError if a setting is not positive,
    `channels` is not 1 or 3, or `max_patches` holds no merge group.
    """

    module: str
    patch: int
    merge: int
    size: int | None
    max_patches: int
    channels: int = 3
    mark: str = "<image>"
    frames: int = 1
    scaling: Scaling = DEFAULT_SCALING
    reduce: int = 0
    most_pixels: int = MOST_PIXELS

    def __post_init__(self) -> None:
        size = 1 if self.size is None else self.size
        if min(self.patch, self.merge, size) < 1 or self.channels not in CHANNELS:
            raise DataError(
                f"image settings of module '{self.module}': got patch {self.patch}, merge {self.merge}, size "
                f"{self.size}, channels {self.channels}; expected positive numbers and 1 or 3 channels."
            )
        if self.max_patches < self.merge**2:
            raise DataError(
                f"image settings of module '{self.module}': max_patches {self.max_patches} is smaller than "
                f"one group of merge x merge = {self.merge**2} patches; raise "
                f"modules.{self.module}.model.image.max_patches."
            )

    @property
    def columns(self) -> int:
        """Numbers per patch row."""
        return self.channels * self.frames * self.patch**2

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (rows, columns) of an image of a size in pixels."""
        return patch_grid(height, width, self.patch, self.merge, self.size, self.max_patches)

    @property
    def kind(self) -> Kind:
        """What the module takes."""
        return IMAGE

    def fits(self, _extent: Extent) -> bool:
        """Whether the module takes an image: one of any size, which is scaled."""
        return True

    def place(self, extent: Extent) -> Placed:
        """The rows of an image of `extent`, (height, width), and the columns of merged cells that leave."""
        height, width = extent
        rows, columns = self.grid(height, width)
        return Placed(self.module, rows * columns, rows * columns // self.merge**2, columns // self.merge)

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which pictures of an image (one) or a video (`files`) make each item: `frames` of them, what is left
        the last."""
        return tuple(slice(first, first + self.frames) for first in range(0, files, self.frames))

    def read(self, files: Sequence[bytes], extent: Extent) -> PatchPayload:
        """The rows of an item's encoded pictures; raises DataError if one cannot be decoded or is not of the indexed
        size."""
        height, width = extent
        return read_patches(files, height, width, self)

    def neutral(self, extent: Extent) -> PatchPayload:
        """The rows of a grey image of this size."""
        return self._payload(extent, np.zeros((self.place(extent).rows_in, self.columns), dtype=np.float32))

    def noise(self, generator: np.random.Generator, extent: Extent) -> PatchPayload:
        """The rows of an image of this size whose values are uniform in [-1, 1)."""
        shape = (self.place(extent).rows_in, self.columns)
        return self._payload(extent, generator.random(shape, dtype=np.float32) * 2 - 1)

    def _payload(self, extent: Extent, patches: Floats) -> PatchPayload:
        height, width = extent
        return PatchPayload(patches, self.grid(height, width))


def patch_grid(height: int, width: int, patch: int, merge: int, size: int | None, max_patches: int) -> tuple[int, int]:
    """The patch grid (rows, columns) of an image with its longer side scaled to `size` pixels.

    Both are multiples of `merge`, at least one group, and their product is at most `max_patches`, at about
    the image's aspect; a `size` of None scales nothing. Integer arithmetic only, so that every machine plans
    the same.
    """
    unit, longer = patch * merge, max(height, width)
    size = longer if size is None else size
    rows = max(1, _rounded(height * size, longer * unit))
    columns = max(1, _rounded(width * size, longer * unit))
    most = max_patches // merge**2
    if rows * columns > most:
        rows = min(most, max(1, math.isqrt(most * height // width)))
        columns = min(most // rows, max(1, math.isqrt(most * width // height)))
    return rows * merge, columns * merge


def read_patches(pictures: Sequence[bytes], height: int, width: int, settings: ItemSettings) -> PatchPayload:
    """Decode pictures into patch rows, transparency on white.

    The last of the pictures, of which there are at most `frames`, is shown in the frames that are left. Raises
    DataError if bytes cannot be decoded or a picture is not `height` x `width` pixels as indexed.
    """
    assert 0 < len(pictures) <= settings.frames, "an item is made of as many pictures as a patch has"
    rows, columns = settings.grid(height, width)
    shown = [_read_pixels(data, height, width, settings) for data in pictures]
    shown += shown[-1:] * (settings.frames - len(shown))
    patches = cut_patches(np.stack(shown), settings.patch, settings.merge)
    payload = PatchPayload(patches, (rows, columns))
    check_rows(payload, IMAGE, rows * columns, "image")
    return payload


def _read_pixels(data: bytes, height: int, width: int, settings: ItemSettings) -> Floats:
    """One picture scaled to its grid, (height, width, channels)."""
    rows, columns = settings.grid(height, width)
    pixels = read_scaled(
        data,
        (height, width),
        (rows * settings.patch, columns * settings.patch),
        settings.scaling.resampling,
        channels=settings.channels,
        reduce=settings.reduce,
        most_pixels=settings.most_pixels,
    )
    mean, std = (np.array(one[: settings.channels], dtype=np.float32) for one in settings.scaling[1:])
    return np.asarray((pixels.astype(np.float32) / 255 - mean) / std, dtype=np.float32)


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


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)
