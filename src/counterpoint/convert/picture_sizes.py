"""The size rule of a processor of pictures, as a section `image` says it."""

from collections.abc import Callable, Mapping
from functools import partial
from math import isqrt
from typing import Any, NamedTuple, TypeGuard, final

from counterpoint.convert.fields import Fields
from counterpoint.errors import CheckpointError
from counterpoint.modalities.images.sizes.between import BetweenConfig
from counterpoint.modalities.images.sizes.budget import BudgetConfig
from counterpoint.modalities.images.sizes.crop import CropConfig
from counterpoint.modalities.images.sizes.longer import Longer
from counterpoint.modalities.images.sizes.naflex import NaflexConfig
from counterpoint.modalities.images.sizes.pad import PadConfig
from counterpoint.modalities.images.sizes.rule import Colour, Size, SizeRule
from counterpoint.modalities.images.sizes.shortest import ShortestConfig
from counterpoint.modalities.images.sizes.stretch import StretchConfig
from counterpoint.modalities.images.sizes.total import TotalConfig

TYPES = ("image_processor_type", "feature_extractor_type")
"""Where a processor's type stands; older files call all processors extractors."""

SIZES = frozenset({
    "size", "crop_size", "crop_pct", "do_resize", "do_center_crop", "default_to_square", "do_pad", "pad_size",
    "min_pixels", "max_pixels", "max_num_patches", "min_num_patches", "max_model_len", "_downsample_factor",
    "image_size", "size_divisor", "downsample_ratio", "max_num_tiles", "min_num_tiles", "use_thumbnail",
    "do_pan_and_scan", "pan_and_scan_min_crop_size", "pan_and_scan_max_num_crops", "pan_and_scan_min_ratio_to_activate",
    "crop_to_patches", "min_patches", "max_patches", "do_image_splitting", "max_image_size", "image_grid_pinpoints",
})  # fmt: skip
"""Keys of a processor that say how large pictures become."""

_TILES = ("do_pan_and_scan", "crop_to_patches", "do_image_splitting", "image_grid_pinpoints", "max_num_tiles")
"""Keys that say that a picture is cut into tiles (Gemma 3, InternVL, Idefics, LLaVA-NeXT and Nemotron Nano VL)."""

_ALWAYS_TILES = ("LlavaNext", "LlavaOnevision", "Idefics3", "SmolVLM")
"""Processors that cut by default."""

_OMNI_CONTEXT = 16384
_CONVNEXT_WHOLE = 384
"""The edge from which ConvNeXt's processor cuts nothing out: transformers' models/convnext."""


@final
class PictureSizes(NamedTuple):
    """The size rule of a processor, and how it differs from the processor's, empty if it does not."""

    rule: SizeRule
    otherwise: str = ""


_CUT = "transformers makes a square of every picture, here a picture keeps its aspect"
_AS_THEY_ARE = "the processor scales no picture (do_resize)"


def refuse_tiles(found: Fields) -> None:
    """Raise CheckpointError for a processor that cuts a picture into several."""
    kind = _kind(found)
    if kind.startswith("Nemotron") and found.has("min_num_patches"):
        return
    key = next((key for key in _TILES if _is_on(found.values.get(key))), None)
    is_off = any(found.values.get(key) is False for key in _TILES)
    if key is None and (is_off or not kind.startswith(_ALWAYS_TILES)):
        return
    name = kind or "the processor"
    by = f" ({key})" if key else ""
    raise CheckpointError(
        f"{found.where}: {name} cuts a picture into tiles{by}, but a picture is one item here and cannot become "
        "several: choose a model whose processor keeps a picture whole."
    )


def picture_sizes(found: Fields | None, patch: int, merge: int, side: int | None) -> PictureSizes | None:
    """What a processor's keys, or the `side` in pixels that config.json states, make of pictures; None if neither says.

    Raises CheckpointError for sizes that are no positive whole numbers, and for those of which there is no rule.
    """
    if found is None:
        return _of_side(side, patch)
    kind = _kind(found)
    if kind.startswith("Nemotron") or found.has("min_num_patches"):
        return PictureSizes(_between(found, merge))
    is_scaled = found.flag("do_resize", True)
    rule: SizeRule | None
    if kind.startswith("Siglip2") or found.has("max_num_patches"):
        rule = NaflexConfig(kind="naflex", max_patches=found.integer("max_num_patches"))
    elif kind.startswith("Qwen") or found.has("min_pixels") or found.has("max_pixels"):
        rule = _budget(found)
    elif kind.startswith("ConvNext"):
        rule = _convnext(found)
    else:
        cut = None if is_scaled or found.flag("do_pad", False) else _crop(found)
        if cut is not None:
            return PictureSizes(CropConfig(kind="crop", height=cut[0], width=cut[1]))
        rule = _plain(found, kind)
    if rule is None:
        return _of_side(found.integer("image_size") if found.has("image_size") else side, patch)
    if is_scaled:
        return PictureSizes(rule)
    return PictureSizes(Longer(size=None, max_patches=max(rule.most(patch, merge), 1)), _AS_THEY_ARE)


def video_sizes(found: Fields) -> PictureSizes | None:
    """What a processor of videos makes of their pictures, None if nothing is known of its kind.

    Raises CheckpointError for sizes that are no positive whole numbers.
    """
    kind = next((value for value in (found.values.get(key) for key in VIDEO_TYPES) if isinstance(value, str)), "")
    defaults = next((sizes for start, sizes in _VIDEOS.items() if kind.startswith(start)), None)
    if defaults is None:
        return None
    least, most = _ends(found, _size(found, "size") or defaults.size)
    is_capped = found.has("cap_pixels_per_frame") and found.flag("cap_pixels_per_frame")
    caps = defaults.caps(found) if is_capped else {}
    return PictureSizes(defaults.rule(min_pixels=least, max_pixels=most, **caps), defaults.otherwise)


VIDEO_TYPES = ("video_processor_type",)
"""Where the type of a processor of videos stands."""


class _Videos(NamedTuple):
    """A processor of videos: its rule, transformers' default of `size`, the keys of a cap on each picture, and what its
    model does otherwise with videos."""

    rule: Callable[..., SizeRule]
    size: Mapping[str, int]
    caps: Callable[[Fields], Mapping[str, int]]
    otherwise: str = ""


def _group_pixels(found: Fields, side: int) -> int:
    """Pixels of a group of patches that becomes one row, where `side` is the default of its side."""
    patch, merge = _integer(found, "patch_size", side // 2), _integer(found, "merge_size", 2)
    return (patch * merge) ** 2


def _shared(found: Fields) -> dict[str, int]:
    # nine tenths of a context, whatever the rest of it is for: models/qwen2_vl/video_processing_qwen2_vl.py
    return {"video_pixels": int(_integer(found, "max_video_tokens", 128_000) * _group_pixels(found, 28) * 0.9)}


def _of_each(found: Fields) -> dict[str, int]:
    return {"picture_pixels": _integer(found, "max_video_tokens", 768) * _group_pixels(found, 32)}


_VIDEOS: Mapping[str, _Videos] = {
    "Qwen2VL": _Videos(
        partial(BudgetConfig, kind="budget"),
        {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
        _shared,
        "the model was trained with videos whose pictures differ in time alone, here each stands after the one before; "
        "train it on pictures, or on enough videos to learn that",
    ),
    "Qwen3VL": _Videos(
        partial(TotalConfig, kind="total"), {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768}, _of_each
    ),
}
"""By how the type of a processor of videos begins."""


def keeps_fractions(found: Fields) -> bool:
    """Whether a processor scales pictures in float32 and does not round them: transformers' models/nemotron_h_omni."""
    return _kind(found).startswith("Nemotron")


def _kind(found: Fields) -> str:
    return next((value for key in TYPES if isinstance(value := found.values.get(key), str)), "")


def _is_on(value: object) -> bool:
    """Whether a key that asks for tiles does so: a number does from 2, a list if it has entries."""
    return value is True or (isinstance(value, list) and bool(value)) or (isinstance(value, int) and value > 1)


def _of_side(side: int | None, patch: int) -> PictureSizes | None:
    if side is None:
        return None
    return PictureSizes(Longer(size=side, max_patches=max(side // patch, 1) ** 2), _CUT)


def _between(found: Fields, merge: int) -> BetweenConfig:
    """Transformers' models/nemotron_h_omni, for a call with one picture."""
    fallback = BetweenConfig(kind="between")
    least = _integer(found, "min_num_patches", fallback.min_patches)
    most = _integer(found, "max_num_patches", fallback.max_patches, least=0)
    context = max((_integer(found, "max_model_len", _OMNI_CONTEXT) - 4) * merge**2, least)
    return BetweenConfig(kind="between", min_patches=least, max_patches=max(min(context, most or context), least))


def _budget(found: Fields) -> BudgetConfig:
    """Qwen's sizes are pixels, not edges, whatever the key says; older files have them outside of `size`."""
    least, most = _ends(found, _size(found, "size"))
    return BudgetConfig(kind="budget", min_pixels=least, max_pixels=most)


def _ends(found: Fields, size: Any) -> tuple[int, int]:
    size = size if isinstance(size, Mapping) else {}
    ends = []
    for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge")):
        value = found.values.get(old) if found.has(old) else size.get(new, size.get(old))
        if not _is_count(value):
            raise found.unlike("size", found.values.get("size"), f"shortest_edge and longest_edge or {old}, in pixels,")
        ends.append(value)
    return ends[0], ends[1]


def _convnext(found: Fields) -> SizeRule:
    edge = _edge_of(found, _size(found, "size"))
    if edge is None:
        raise found.unlike("size", found.values.get("size"), "a shortest_edge")
    if edge >= _CONVNEXT_WHOLE:
        return StretchConfig(kind="stretch", height=edge, width=edge)
    share = found.number("crop_pct", 224 / 256)
    if not 0 < share <= 1:
        raise found.unlike("crop_pct", share, "a share of 1")
    return CropConfig(kind="crop", edge=int(edge / share), height=edge, width=edge)


def _plain(found: Fields, kind: str) -> SizeRule | None:
    """What most processors do, as transformers' PilBackend: resize, then cut out the middle; None without a size."""
    size = _size(found, "size")
    square, edge = _square_of(found, size), _edge_of(found, size)
    if size is not None and square is None and edge is None:
        raise found.unlike("size", size, "height and width, or a shortest_edge alone,")
    crop = _crop(found)
    if found.flag("do_pad", False):
        return _padded(found, kind, square or (edge and (edge, edge)), crop)
    if crop is not None and square is None:
        return CropConfig(kind="crop", edge=edge, height=crop[0], width=crop[1])
    if square is not None and crop in (None, square):
        return StretchConfig(kind="stretch", height=square[0], width=square[1])
    if square is not None:
        raise found.unlike("crop_size", found.values.get("crop_size"), "the height and width of size")
    return None if edge is None else ShortestConfig(kind="shortest", edge=edge)


def _padded(found: Fields, kind: str, square: Any, crop: Size | None) -> PadConfig:
    """Transformers' models/llava with do_pad, whose square has the colour of the mean."""
    if not kind.startswith("Llava") or found.has("pad_size") or not found.flag("do_resize", True):
        raise found.unlike("do_pad", True, "false")
    if not square or square[0] != square[1] or crop not in (None, square):
        raise found.unlike("size", found.values.get("size"), "one side of a square, as in crop_size,")
    mean = found.values.get("image_mean", found.default("image_mean"))
    if not isinstance(mean, list | tuple) or len(mean) != 3 or not all(isinstance(one, float | int) for one in mean):
        raise found.unlike("image_mean", mean, "three numbers")
    red, green, blue = (min(max(int(one * 255), 0), 255) for one in mean)
    colour: Colour = (red, green, blue)
    return PadConfig(kind="pad", side=square[0], colour=colour)


def _crop(found: Fields) -> Size | None:
    if not found.flag("do_center_crop", found.has("crop_size")):
        return None
    value = _size(found, "crop_size")
    square = (value, value) if _is_count(value) else _square_of(found, value)
    if square is None:
        raise found.unlike("crop_size", value, "a side, or height and width,")
    return square


def _size(found: Fields, key: str) -> Any:
    """The value of a key, or what transformers takes in its place."""
    return found.values[key] if found.has(key) else found.default(key)


def _square_of(found: Fields, size: Any) -> Size | None:
    """The height and width that every picture gets."""
    if _is_count(size) and found.has("default_to_square") and found.flag("default_to_square"):
        return size, size
    if _said(size) != {"height", "width"}:
        return None
    height, width = size["height"], size["width"]
    return (height, width) if _is_count(height) and _is_count(width) else None


def _edge_of(found: Fields, size: Any) -> int | None:
    """The shorter side that every picture gets."""
    if _is_count(size):
        return None if _square_of(found, size) else size
    if _said(size) != {"shortest_edge"}:
        return None
    edge = size["shortest_edge"]
    return edge if _is_count(edge) else None


def _said(size: Any) -> set[str]:
    """The keys of a section that are not null; none of what is no section."""
    return {key for key, value in size.items() if value is not None} if isinstance(size, Mapping) else set()


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


_LARGEST = 2**62


def _integer(found: Fields, key: str, otherwise: int, least: int = 1) -> int:
    return found.integer(key, least=least) if found.has(key) else otherwise


def nearest_square(patches: int, patch: int) -> int:
    """The side in pixels of the largest square picture of so many patches at most."""
    return isqrt(patches) * patch
