"""Encoded pictures of any format, mode and metadata: their size as displayed, and their scaled pixels.

No content of a file may end a training or be executed: whatever Pillow raises for its bytes becomes a DataError, and no
picture is passed to another program.
"""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from counterpoint.errors import DataError
from counterpoint.modalities.images.sizes.rule import Colour, View
from counterpoint.modalities.images.spec import MOST_PIXELS, Resampling

_ORIENTATION = 0x0112
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by its EXIF orientation."""

_PNG = b"\x89PNG\r\n\x1a\n"
_SIDEWAYS = (5, 6, 7, 8)
_WHITE = (255, 255, 255, 255)
_GREYS = (1, 2**8 - 1, 2**16 - 1)
"""What white is in pictures of one number a pixel, by the largest number that they hold."""

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_DRAWN = ("EPS", "IPTC")
"""Formats that Pillow has drawn by another program, Ghostscript, and one that may hold a picture of such a format."""

_UP_TO_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose numbers Pillow gives in 16 bits, whatever mode it calls them."""


def image_size(data: bytes, most_pixels: int = MOST_PIXELS) -> tuple[int, int]:
    """Height and width in pixels of encoded bytes as displayed, read from the header.

    Raises DataError for bytes that are no picture, and for one of more than `most_pixels`.
    """
    with _opened(data, "read") as image:
        width, height = image.size
        is_sideways = _orientation(image, data) in _SIDEWAYS
    _check_pixels(height, width, most_pixels)
    return (width, height) if is_sideways else (height, width)


def read_scaled(
    data: bytes,
    size: tuple[int, int],
    target: tuple[int, int],
    resampling: Resampling,
    *,
    view: View | None = None,
    channels: int = 3,
    reduce: int = 0,
    most_pixels: int = MOST_PIXELS,
    rounded: bool = True,
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The pixels of a picture (height, width, channels) from 0 to 255, upright, on white where it is transparent, of
    the size `target`: all of it scaled, or what a `view` shows. If not `rounded` they are float32 as the filter makes
    them, beyond 0 and 255 too.

    A JPEG is decoded at a half, a quarter or an eighth of its size as long as that leaves `reduce` times the scaled
    picture or more (0: never). Raises DataError if it cannot be decoded, has more than `most_pixels`, or is not of
    `size` as indexed.
    """
    with _opened(data, "decoded") as image:
        width, height = image.size
        turn = _orientation(image, data)
        _check_pixels(height, width, most_pixels)
        is_sideways = turn in _SIDEWAYS
        shown = (width, height) if is_sideways else (height, width)
        if shown != size:
            raise DataError(
                f"the image is {shown[0]}x{shown[1]} pixels, but the index says {size[0]}x{size[1]}; prepare the "
                "dataset again."
            )
        view = View(target) if view is None else view
        stored_target = view.scaled if is_sideways else view.scaled[::-1]
        box = _reduced(image, stored_target, reduce)
        pixels = flatten(image, channels)
    mode, kernel = _TURNED.get(turn), Image.Resampling[resampling.upper()]
    if box is None:
        pixels = _in_square(pixels if mode is None else pixels.transpose(mode), view.around)
    scaled = []
    # Pillow rounds in every mode but that of one float32 number a pixel.
    for band in [pixels] if rounded else [band.convert("F") for band in pixels.split()]:
        if box is not None:
            part = band.resize(stored_target, kernel, box=box)
            part = part if mode is None else part.transpose(mode)
        else:
            part = band.resize(view.scaled[::-1], kernel)
        if (view.top, view.left, *view.scaled) != (0, 0, *target):
            # Pillow's crop is black outside of the picture.
            part = part.crop((view.left, view.top, view.left + target[1], view.top + target[0]))
        scaled.append(np.asarray(part).reshape(*target, -1))
    return np.concatenate(scaled, axis=-1)


def _in_square(picture: Image.Image, around: Colour | None) -> Image.Image:
    """A picture in the middle of a square of a colour; itself where there is none."""
    width, height = picture.size
    if around is None or width == height:
        return picture
    side = max(width, height)
    square = Image.new("RGB", (side, side), around).convert(picture.mode)
    square.paste(picture, ((side - width) // 2, (side - height) // 2))
    return square


def flatten(image: Image.Image, channels: int = 3) -> Image.Image:
    """A picture of any mode in 8 bits of RGB, or of grey for one channel, on white where it is transparent.

    Where a pixel is one number, white is 1, 255 or 65535, the least that none exceeds; raises DataError for others.
    """
    if image.mode == "F" or image.mode in _SIXTEEN_BITS or image.mode == "I":
        image = _grey(image)
    if image.has_transparency_data:
        if image.mode in ("La", "RGBa"):
            image = image.convert(image.mode[:-1] + "A")
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    colours = image.convert("RGB")
    return colours if channels > 1 else colours.convert("L")


def _grey(image: Image.Image) -> Image.Image:
    """A picture of one number a pixel, in 8 bits."""
    numbers = np.asarray(image)
    largest, smallest = numbers.max(initial=0), numbers.min(initial=0)
    is_deep = image.mode in _SIXTEEN_BITS or (image.mode == "I" and image.format in _UP_TO_SIXTEEN_BITS)
    whites = _GREYS[-1:] if is_deep else _GREYS if image.mode == "F" else _GREYS[1:]
    white = next((white for white in whites if largest <= white), None)
    if white is None or not smallest >= 0:
        raise DataError(
            f"its pixels are numbers from {smallest} to {largest}, expected none below 0, and 65535 at most as white; "
            "save it in 8 bits"
        )
    levels = np.floor(numbers.astype(np.float64) * 255 / white + 0.5)
    return Image.fromarray(levels.astype(np.uint8))


def _reduced(image: Image.Image, target: tuple[int, int], reduce: int) -> tuple[float, float, float, float] | None:
    """Let a JPEG decode at a reduced size; returns the box of the picture in the reduced pixels."""
    if not reduce:
        return None
    full = image.size
    drafted = image.draft(None, (target[0] * reduce, target[1] * reduce))
    return None if drafted is None or image.size == full else drafted[1]


def _orientation(image: Image.Image, data: bytes) -> int:
    """Its EXIF orientation, 1 without a usable one; decodes nothing."""
    try:
        if isinstance(image, PngImageFile) and "exif" not in image.info:
            image.info.update(_late_exif(data))
        # For a PNG, Pillow's getexif decodes the picture to reach metadata after its pixels.
        value = Image.Image.getexif(image).get(_ORIENTATION)
    except Exception:  # Metadata may hold anything, and Pillow may raise anything; the pixels are there all the same.
        return 1
    return value if isinstance(value, int) and value in _TURNED else 1


def _late_exif(data: bytes) -> dict[str, bytes]:
    """The metadata of a PNG that come after its pixels."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            return {"exif": b"Exif\0\0" + data[at + 8 : at + 8 + length]}
        at += 12 + length
    return {}


def _check_pixels(height: int, width: int, most: int) -> None:
    if height * width > most:
        raise DataError(
            f"the image has {height}x{width} pixels, more than the {most} that are decoded; scale it down, or raise "
            "the limit (prepare --max-pixels, and max_pixels of the module's section image)."
        )


@contextmanager
def _opened(data: bytes, what: str) -> Iterator[Image.Image]:
    """Open a picture and read its header; see `_refusing`."""
    with _refusing(what), Image.open(io.BytesIO(data)) as image:
        if image.format in _DRAWN:
            raise DataError(
                f"the image is of the format {image.format}, expected one of pixels; save it as PNG or JPEG."
            )
        yield image


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn whatever bytes of a picture make Pillow raise into a DataError."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"the image has more pixels than are decoded ({error}); scale it down.") from error
    except Exception as error:  # Decoders meet bytes that nobody wrote; what they raise is about these.
        # Pillow names the buffer there, which says nothing.
        reason = "of no format that is known" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(
            f"the image bytes cannot be {what} ({reason}), expected a whole picture such as a PNG or JPEG; replace or "
            "remove the image."
        ) from error
