"""How pictures and clips enter an imported module, and what synthetic ones its first documents have."""

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import Any, NamedTuple, final

from counterpoint.convert.composite import AUDIO, VISION, Stored
from counterpoint.convert.picture_sizes import PictureSizes, nearest_square, picture_sizes, video_sizes
from counterpoint.convert.processor import check_frames, picture_fields, scaling_in, seconds_in, video_fields
from counterpoint.families import facts_of
from counterpoint.importing.keys import Key
from counterpoint.importing.source import Source
from counterpoint.modalities.clips.spec import FRAMES_A_SECOND
from counterpoint.modalities.images.sizes.longer import Longer

_MOST_ROWS = 1280
"""Rows that a picture may become where its size has no other limit that a sequence would hold."""

_CLIP_SECONDS = 10
"""Of the longest synthetic clip."""


@final
class Items(NamedTuple):
    """The section of a module's model that says how files enter; the most `rows` of an item; synthetic items."""

    section: Key
    rows: int
    synthetic: Mapping[str, Any]


def items_of(name: str, stored: Stored, source: Source) -> Items:
    """What enters an encoder; raises CheckpointError for what the folder's processor does otherwise than we can."""
    return {VISION: _pictures, AUDIO: _clips}[name](stored, source)


def _pictures(stored: Stored, source: Source) -> Items:
    section, group = stored.model.section, facts_of(stored.model).row_multiple
    patch = section.patch
    found = None if source.folder is None else picture_fields(source.folder)
    merge = isqrt(group)
    sizes = picture_sizes(found, patch, merge, _stated_side(source, stored))
    most = _MOST_ROWS * group
    if sizes is None:
        sizes = PictureSizes(Longer(size=None, max_patches=most), "nothing says how large pictures are")
    # A side that the merged patches do not fill is rounded up to one group.
    rule, allowed = sizes.rule.at_most(most, patch, merge), sizes.rule.most(patch, merge)
    if rule.most(patch, merge) < allowed:
        larger = f"the processor allows {allowed} patches, which needs a longer data.sequence_tokens"
        sizes = sizes._replace(otherwise="; ".join(one for one in (larger, sizes.otherwise) if one))
    keys = rule.keys
    videos = None if source.folder is None else video_fields(source.folder)
    of_videos = None if videos is None else video_sizes(videos)
    if of_videos is not None and of_videos.rule != rule:
        keys |= {"video": of_videos.rule.model_dump(mode="json")}
        sizes = sizes._replace(otherwise="; ".join(one for one in (sizes.otherwise, of_videos.otherwise) if one))
    elif videos is not None and of_videos is None:
        unread = "pictures of videos get the size of single ones, since the processor of videos is not read"
        sizes = sizes._replace(otherwise="; ".join(one for one in (sizes.otherwise, unread) if one))
    max_patches = max(rule.most(patch, merge), group)
    origin = ""
    if source.folder is not None:
        patches = {"patch_size": section.patch, "merge_size": _merge(stored), "temporal_patch_size": _frames(stored)}
        said = scaling_in(source.folder, patches) if _has_scaling(source) else None
        if said is not None and said.values:
            keys |= {key: list(value) if isinstance(value, tuple) else value for key, value in said.values.items()}
            origin = f"mean and std from {Path(said.file.split(',')[0]).name}"
    comment = "; ".join(one for one in (origin or _NO_SCALING, sizes.otherwise) if one)
    side = keys.get("size") or max(nearest_square(max_patches, patch), patch)
    low = max(side // 2, patch)
    synthetic = {
        "images_per_document": {"kind": "uniform", "low": 0, "high": 2},
        "image_height": {"kind": "uniform", "low": low, "high": max(side, low)},
        "image_width": {"kind": "uniform", "low": low, "high": max(side, low)},
    }
    return Items(Key("image", keys, comment), -(-max_patches // group), synthetic)


_NO_SCALING = "without a processor file mean and std are 0.5 and the filter is bicubic"


def _has_scaling(source: Source) -> bool:
    """Whether files can be asked for a scaling: a RADIO's own is in its weights."""
    assert source.folder is not None
    return source.weights is not None or picture_fields(source.folder) is not None


def _merge(stored: Stored) -> int:
    keys = stored.model.section.model_fields_set
    return int(stored.model.section.merge) if "merge" in keys else 1


def _frames(stored: Stored) -> int:
    keys = stored.model.section.model_fields_set
    return int(stored.model.section.frames) if "frames" in keys else 1


def _stated_side(source: Source, stored: Stored) -> int | None:
    """The side of a picture in pixels that config.json states, else that of the table of positions, if any."""
    section = source.config.get("vision_config")
    for place, key in ((source.config, "force_image_size"), (section, "image_size"), (source.config, "image_size")):
        value = place.get(key) if isinstance(place, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    keys = stored.model.section.model_fields_set
    positions = int(stored.model.section.positions) if "positions" in keys else 0
    return positions * int(stored.model.section.patch) or None


def _clips(stored: Stored, source: Source) -> Items:
    section, facts = stored.model.section, facts_of(stored.model)
    is_normalised, longest = section.kind == "conformer", section.positions * section.stride // FRAMES_A_SECOND
    seconds: int | str | None = None
    origin = "clips keep their own length"
    if source.folder is not None:
        check_frames(source.folder, section.mels, normalised=is_normalised)
        seconds = seconds_in(source.folder)
        origin = "from the processor" if seconds is not None else origin
    if seconds is None and not is_normalised and longest:
        seconds, origin = longest, "all that the table of positions holds"
    whole = seconds or "own"
    length = seconds if isinstance(seconds, int) else min(_CLIP_SECONDS, max(longest, 1))
    rows = -(-length * FRAMES_A_SECOND // section.stride // facts.row_multiple)
    synthetic = {
        "audio_per_document": {"kind": "uniform", "low": 0, "high": 1},
        "audio_milliseconds": {"kind": "uniform", "low": 500, "high": max(1000 * length // 2, 501)},
    }
    return Items(Key("audio", {"seconds": whole}, origin), rows, synthetic)
