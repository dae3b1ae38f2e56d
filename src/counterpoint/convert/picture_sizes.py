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
_AS_THEY_ARE = "the processor scales no picture (do_resize)"
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
    is_scaled = found is None or not found.has("do_resize") or found.flag("do_resize")
    side = (None if found is None else _side(found, is_scaled=is_scaled)) or side
    if side is None:
        return None
    most = max(side // patch, 1) ** 2
    if not is_scaled:
        return PictureSizes(None, most, _AS_THEY_ARE)
    edge = None if found is None else _edge(found, "size")
    if edge is None or edge == side:
        return PictureSizes(side, most, _CUT)
    cut = f"the processor cuts {side} out of pictures scaled to {edge}, here all of a picture is scaled to {side}"
    return PictureSizes(side, most, cut)


def _most_pixels(found: Fields) -> int | None:
    """The most pixels of a picture of any shape."""
    if found.has("max_pixels"):
        return found.integer("max_pixels", most=2**62)
    size = _mapping(found, "size")
    if "longest_edge" not in size:
        return None
    # Qwen's sizes are pixels, not edges, whatever the key says.
    return found.section("size").integer("longest_edge", most=2**62)


def _side(found: Fields, *, is_scaled: bool) -> int | None:
    """The side of the square that every picture becomes."""
    crops = not found.has("do_center_crop") or found.flag("do_center_crop")
    for key in (*(("crop_size",) if crops else ()), *(("size", "image_size") if is_scaled else ())):
        edge = _edge(found, key)
        if edge is not None:
            return edge
    return None


def _edge(found: Fields, key: str) -> int | None:
    """The side that a key says, as a number or in a section."""
    if not found.has(key):
        return None
    value = _mapping(found, key)
    if not value:
        return found.integer(key)
    edge = next((edge for edge in ("height", "shortest_edge") if edge in value), None)
    return None if edge is None else found.section(key).integer(edge)


def _mapping(found: Fields, key: str) -> Mapping[str, object]:
    value = found.values.get(key)
    return value if isinstance(value, Mapping) else {}


def nearest_square(patches: int, patch: int) -> int:
    """The side in pixels of the largest square picture of so many patches at most."""
    return isqrt(patches) * patch
