"""The sizes that a processor of pictures makes, as the keys `size` and `max_patches` of a section `image`."""

from collections.abc import Mapping
from math import isqrt
from typing import NamedTuple, final

from counterpoint.convert.fields import Fields

SIZES = frozenset({
    "size", "crop_size", "crop_pct", "do_resize", "do_center_crop", "do_pad", "pad_size", "min_pixels", "max_pixels",
    "max_num_patches", "image_size", "max_num_tiles", "min_num_tiles", "use_thumbnail", "size_divisor",
    "downsample_ratio",
})  # fmt: skip
"""Keys of a processor that say how large pictures become."""


@final
class PictureSizes(NamedTuple):
    """`size` and `max_patches` of a section `image`, and how they differ from the processor, empty if they do not."""

    size: int | None
    max_patches: int
    otherwise: str = ""


_CUT = "transformers makes a square of every picture, here a picture keeps its aspect"
_ENLARGED = "transformers enlarges small pictures, too, here they keep their size"


def picture_sizes(found: Fields | None, patch: int, side: int | None) -> PictureSizes | None:
    """What a processor's keys, or the `side` in pixels that config.json states, make of pictures; None if neither says.

    Raises CheckpointError for sizes that are no positive whole numbers.
    """
    if found is not None and found.has("max_num_patches"):
        return PictureSizes(None, found.integer("max_num_patches"), _ENLARGED)
    pixels = None if found is None else _most_pixels(found)
    if pixels is not None:
        return PictureSizes(None, max(pixels // patch**2, 1), _ENLARGED)
    side = (None if found is None else _side(found)) or side
    return None if side is None else PictureSizes(side, max(side // patch, 1) ** 2, _CUT)


def _most_pixels(found: Fields) -> int | None:
    """The most pixels of a picture of any shape."""
    if found.has("max_pixels"):
        return found.integer("max_pixels", most=2**62)
    size = _mapping(found, "size")
    if "longest_edge" not in size:
        return None
    # Qwen's sizes are pixels, not edges, whatever the key says.
    return found.section("size").integer("longest_edge", most=2**62)


def _side(found: Fields) -> int | None:
    """The side of the square that every picture becomes."""
    crops = not found.has("do_center_crop") or found.flag("do_center_crop")
    for key in ("crop_size", "size", "image_size") if crops else ("size", "image_size"):
        if not found.has(key):
            continue
        value = _mapping(found, key)
        if not value:
            return found.integer(key)
        edge = next((edge for edge in ("height", "shortest_edge") if edge in value), None)
        if edge is not None:
            return found.section(key).integer(edge)
    return None


def _mapping(found: Fields, key: str) -> Mapping[str, object]:
    value = found.values.get(key)
    return value if isinstance(value, Mapping) else {}


def nearest_square(patches: int, patch: int) -> int:
    """The side in pixels of the largest square picture of so many patches at most."""
    return isqrt(patches) * patch
