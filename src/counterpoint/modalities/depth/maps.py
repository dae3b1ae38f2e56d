"""Encoded depth maps: 16-bit PNG, and arrays of metres in .npy files."""

import io
import struct

import numpy as np
from PIL import Image

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8x8xIIBB")
"""Width, height, bits of a number and kind of colour of a PNG."""

_DEEP_GREY = (16, 0)
_ARRAY = b"\x93NUMPY"
_REMEDY = "save distances as a 16-bit PNG of one channel, or with numpy.save as a float array (height, width) of metres"


def map_size(data: bytes, most_pixels: int) -> tuple[int, int]:
    """Height and width of an encoded depth map, of a PNG from its header.

    Raises DataError unless it is of a form that `read_map` reads, and for one of more than `most_pixels`.
    """
    height, width = read_array(data).shape if data.startswith(_ARRAY) else _png_size(data)
    if height * width > most_pixels:
        raise DataError(
            f"the depth map has {height}x{width} pixels, more than the {most_pixels} that are decoded; scale it down, "
            "or raise the limit (prepare --max-pixels, and max_pixels of the module's section image)."
        )
    return height, width


def read_map(data: bytes, size: tuple[int, int], per_metre: float, most_pixels: int) -> Floats:
    """The metres (height, width), float32, of an encoded depth map whose PNG has `per_metre` steps to the metre.

    Raises DataError if it cannot be decoded, has more than `most_pixels`, or is not of `size` as indexed.
    """
    found = map_size(data, most_pixels)
    if found != size:
        raise DataError(
            f"the depth map is {found[0]}x{found[1]} pixels, but the index says {size[0]}x{size[1]}; prepare the "
            "dataset again."
        )
    return read_array(data) if data.startswith(_ARRAY) else _read_png(data) / np.float32(per_metre)


def read_array(data: bytes) -> Floats:
    """The metres (height, width), float32, of the bytes of a .npy file; raises DataError."""
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # Whatever numpy raises is about these bytes.
        raise DataError(f"the depth map's bytes are no whole .npy file ({error}); {_REMEDY}.") from error
    if values.ndim != 2 or not values.size or values.dtype.kind != "f":
        found = f"{values.dtype} {values.shape}"
        raise DataError(f"the depth map is {found}, expected floats (height, width) of metres; {_REMEDY}.")
    with np.errstate(over="ignore"):
        metres = np.ascontiguousarray(values, dtype=np.float32)
    if not (np.isfinite(metres) & (metres >= 0)).all():
        raise DataError(
            "the depth map has a number that is negative, or not finite in float32, expected metres; write 0 where "
            "nothing was measured."
        )
    return metres


def _png_size(data: bytes) -> tuple[int, int]:
    if not data.startswith(_PNG) or len(data) < _HEADER.size:
        raise DataError(f"the depth map's bytes are neither a PNG nor a .npy file; {_REMEDY}.")
    width, height, bits, colour = _HEADER.unpack_from(data)
    if (bits, colour) != _DEEP_GREY:
        what = "grey" if colour == _DEEP_GREY[1] else "coloured"
        raise DataError(
            f"the depth map is a {what} PNG of {bits} bits, expected one grey channel of 16, whose numbers are "
            f"distances; {_REMEDY}."
        )
    if not height or not width:
        raise DataError(f"the depth map has {height}x{width} pixels, expected some; {_REMEDY}.")
    return height, width


def _read_png(data: bytes) -> Floats:
    """The numbers of a PNG of 16 bits."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.asarray(image).astype(np.float32)
    except Exception as error:  # Decoders meet bytes that nobody wrote; what they raise is about these.
        raise DataError(f"the depth map cannot be decoded ({error}), expected a whole PNG; {_REMEDY}.") from error
