"""What a Hugging Face folder says of pixels and frames, in its processor or in the conditioner of a RADIO."""

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

from counterpoint.convert.defaults import read_defaults
from counterpoint.convert.fields import LARGEST_NUMBER, Fields, is_number, shown
from counterpoint.convert.folder import CONFIG_NAME, ModelFolder
from counterpoint.convert.keys import Keys
from counterpoint.convert.kind import kind_of_config
from counterpoint.convert.picture_sizes import SIZES, TYPES, keeps_fractions, refuse_tiles
from counterpoint.errors import CheckpointError
from counterpoint.modalities.clips.spec import ClipIntake
from counterpoint.modalities.images.spec import DEFAULT_SCALING, ImageIntake, Resampling, Scaling

PROCESSOR_NAME, PREPROCESSOR_NAME = "processor_config.json", "preprocessor_config.json"
"""Files of a folder: the one holds sections for each kind of item, the other is one of these."""

VIDEO_NAME = "video_preprocessor_config.json"
"""The file that is the section for videos."""

Channels = tuple[float, float, float]

CLIP_MEAN: Channels = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Channels = (0.26862954, 0.26130258, 0.27577711)
_ALIKE: Mapping[str, str] = {"Llava": "CLIP"}
"""Processors whose scaling is that of others: transformers' models/llava/image_processing_llava.py."""

_FILTERS: tuple[Resampling, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""

_LEVELS = 255
_CONDITIONER = "radio_model.input_conditioner."
_REMEDY = "copy it from the model again"
_RADIO, _OMNI = "radio", "nemotron_h_omni"
_SECONDS = "chunk_length"


@final
@dataclass(frozen=True, slots=True)
class Said:
    """What files of a folder say: `values` of a scaling by name, each with the file that it is from."""

    values: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


def said_of_images(folder: Path, intake: ImageIntake) -> Said:
    """How pixels become numbers, as a folder says; raises CheckpointError, also for other patches than the module's."""
    return scaling_in(
        folder, {"patch_size": intake.patch, "merge_size": intake.merge, "temporal_patch_size": intake.frames}
    )


def said_of_clips(folder: Path, intake: ClipIntake) -> Said:
    """The length of clips, as a folder says; raises CheckpointError if its frames are not those that the module
    takes."""
    check_frames(folder, intake.mels, normalised=intake.normalised)
    seconds = seconds_in(folder)
    return Said() if seconds is None else Said({"seconds": seconds}, str(folder))


def scaling_in(folder: Path, patches: Mapping[str, int] = MappingProxyType({})) -> Said:
    """How a folder's processor, and a conditioner inside its model, turn pixels into numbers.

    Empty where the folder has neither; raises CheckpointError for a scaling that cannot be done here, for keys of
    `patches` with another value, and for keys of which nothing is known.
    """
    found = picture_fields(folder)
    model = Fields(_content(folder / CONFIG_NAME) or {}, str(folder / CONFIG_NAME))
    kind = kind_of_config(model.values) or ""
    if found is None and kind not in (_RADIO, _OMNI):
        return Said()
    if found is None:
        # Pixels from 0 to 1 are what the conditioner takes.
        mean, std = _conditioner(folder, model, kind)
        rounded = {"rounded": False} if kind == _OMNI else {}
        return Said({"mean": mean, "std": std, **rounded}, model.where)
    scaling = _scaling(found)
    for key, value in patches.items():
        if found.has(key):
            found.demand(key, value)
    found.refuse_rest()
    _refuse_other_videos(folder, found)
    if kind == _RADIO:
        mean, std = _conditioner(folder, model, kind)
        combined = zip(scaling.mean, scaling.std, mean, std, strict=True)
        means, deviations = zip(*((m + s * inner, s * spread) for m, s, inner, spread in combined), strict=True)
        scaling = scaling._replace(mean=means, std=deviations)
    return Said(scaling._asdict(), found.where)


def picture_fields(folder: Path) -> Fields | None:
    """A folder's processor of pictures, None where it has none; raises CheckpointError for a file that is broken, and
    for a processor that makes several pictures of one."""
    found = _section(folder, ("image_processor",), _OF_IMAGES, _WITHOUT_EFFECT_ON_PIXELS)
    if found is not None:
        refuse_tiles(found)
    return found


def video_fields(folder: Path) -> Fields | None:
    """A folder's processor of videos, None where it has none; raises CheckpointError for a file that is broken."""
    whole, alone = _content(folder / PROCESSOR_NAME) or {}, _content(folder / VIDEO_NAME)
    videos = whole.get("video_processor", alone)
    where = folder / (VIDEO_NAME if "video_processor" not in whole else PROCESSOR_NAME)
    return Fields(videos, str(where), _KIND) if isinstance(videos, Mapping) else None


def _refuse_other_videos(folder: Path, pictures: Fields) -> None:
    """Raise CheckpointError if pictures of a video are scaled otherwise: one tower has one scaling here."""
    found = video_fields(folder)
    videos = {} if found is None else found.values
    for key in sorted(_SCALING & videos.keys() & pictures.values.keys()):
        if videos[key] != pictures.values[key]:
            raise CheckpointError(
                f"{folder}: {key} is {shown(videos[key])} for videos and {shown(pictures.values[key])} for pictures, "
                "but only one scaling of both can be converted: choose another model."
            )


def seconds_in(folder: Path) -> int | None:
    """The length to which a folder's processor cuts and fills up clips, None where it does not; raises
    CheckpointError."""
    found = _frames(folder)
    return found.integer(_SECONDS) if found is not None and found.has(_SECONDS) else None


def check_frames(folder: Path, mels: int, *, normalised: bool) -> None:
    """Raise CheckpointError if a folder's processor turns clips into other frames than this package does."""
    found = _frames(folder)
    if found is None:
        return
    found.demand("feature_size", mels)
    found.demand("sampling_rate", 16_000)
    found.demand("hop_length", 160)
    found.demand("padding_value", 0.0)
    found.demand("padding_side", "right")
    found.demand("dither", 0.0)
    found.has(_SECONDS)
    if normalised:
        found.demand("n_fft", 512)
        found.demand("win_length", 400)
        found.demand("preemphasis", 0.97)
    else:
        found.demand("n_fft", 400)
        found.demand("do_normalize", False)
    found.refuse_rest()


_WITHOUT_EFFECT_ON_PIXELS = frozenset({
    *TYPES, "processor_class", "auto_map", "data_format", "input_data_format", "return_tensors", "device",
    "disable_grouping", "_valid_processor_keys", "image_seq_length", "num_image_tokens",
    # Every picture becomes colours of eight bits.
    "do_convert_rgb",
    # How large a picture becomes, which the size rule says here (`convert/picture_sizes.py`).
    *SIZES,
})  # fmt: skip
_WITHOUT_EFFECT_ON_FRAMES = frozenset({
    *TYPES, "processor_class", "auto_map", "return_attention_mask", "device",
    # These follow from others.
    "n_samples", "nb_max_frames", "mel_filters",
})  # fmt: skip
_SCALING = frozenset({"image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize", "resample"})
_KIND = "processor"
_NEMOTRON: Mapping[str, Any] = {"image_mean": CLIP_MEAN, "image_std": CLIP_STD, "resample": 3}
"""Of transformers' models/nemotron_h_omni/image_processing_nemotron_h_omni.py, which needs torchvision to be made."""

_OF_IMAGES = {"image_processor_type", "image_mean", "norm_mean", "do_rescale", "rescale_factor", "resample"}
_OF_CLIPS = {"feature_size", "sampling_rate", "hop_length", _SECONDS}
"""Keys that a file without sections has of what it processes."""


def _frames(folder: Path) -> Fields | None:
    names = ("feature_extractor", "audio_processor")
    return _section(folder, names, _OF_CLIPS, _WITHOUT_EFFECT_ON_FRAMES)


def _section(folder: Path, names: tuple[str, ...], keys: Set[str], without_effect: frozenset[str]) -> Fields | None:
    """The section of a processor, as transformers chooses it, or the file that is one and has one of `keys`."""
    whole = _content(folder / PROCESSOR_NAME) or {}
    for name in names:
        if isinstance(whole.get(name), dict):
            return _fields(whole[name], f"{folder / PROCESSOR_NAME}, {name}", without_effect)
    one = _content(folder / PREPROCESSOR_NAME)
    if one is None or not keys & one.keys():
        return None
    return _fields(one, str(folder / PREPROCESSOR_NAME), without_effect)


def _fields(values: Mapping[str, Any], where: str, without_effect: frozenset[str]) -> Fields:
    """The keys of a processor, with the defaults of its type."""
    stated = next((value for key in TYPES if isinstance(value := values.get(key), str)), "")
    family = next((new for old, new in _ALIKE.items() if stated.startswith(old)), stated)
    table = read_defaults().processors
    # A name may have a suffix, such as Fast; the longest that begins alike is its own.
    kinds = sorted((kind for kind in table if family.startswith(_stem(kind))), key=len)
    defaults = table[kinds[-1]] if kinds else _NEMOTRON if family.startswith("Nemotron") else {}
    return Fields(values, where, _KIND, defaults, known={_KIND: Keys(without_effect=without_effect)})


def _stem(kind: str) -> str:
    """The name of a processor's model."""
    return kind.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")


def _scaling(found: Fields) -> Scaling:
    mean: Channels = (0.0, 0.0, 0.0)
    std: Channels = (1.0, 1.0, 1.0)
    if found.flag("do_normalize", True):
        mean = _channels(found, ("image_mean", "norm_mean"), found.default("image_mean"))
        std = _channels(found, ("image_std", "norm_std"), found.default("image_std"), least=_LEAST)
    else:
        # Files keep the keys of what is switched off.
        for key in ("image_mean", "norm_mean", "image_std", "norm_std"):
            found.has(key)
    factor = found.number("rescale_factor", 1 / _LEVELS) if found.flag("do_rescale", True) else 1.0
    if factor < _LEAST:
        raise found.unlike("rescale_factor", factor, "a number above 0")
    white = factor * _LEVELS
    if abs(white - 1) > _ROUNDING:
        mean, std = _divided(mean, white), _divided(std, white)
    return Scaling(_filter(found), mean, std, rounded=not keeps_fractions(found))


_LEAST = 1e-30
"""The least of what is divided by."""

_ROUNDING = 1e-6
"""How far off a factor may be that is written with few digits."""


def _divided(values: Channels, by: float) -> Channels:
    first, second, third = values
    return first / by, second / by, third / by


def _filter(found: Fields) -> Resampling:
    found.demand("resample", *range(len(_FILTERS)))
    chosen = found.default("resample") if not found.has("resample") else int(found.number("resample"))
    return DEFAULT_SCALING.resampling if chosen is None else _FILTERS[chosen]


def _channels(
    found: Fields, keys: tuple[str, ...], default: Sequence[float] | None, least: float = -LARGEST_NUMBER
) -> Channels:
    """Three numbers of at least `least`, or one for all channels, at the first of some keys that is present."""
    key = next((key for key in keys if found.has(key)), None)
    if key is None:
        if default is None:
            raise CheckpointError(f"{found.where} has no {keys[0]}: add it, as the model was trained with it.")
        return _three(default, f"{found.where}, without {keys[0]}", least)
    return _three(found.values[key], f"{found.where} says {key}", least)


def _three(value: Any, where: str, least: float) -> Channels:
    values = value if isinstance(value, list | tuple) else [value] * 3
    if len(values) != 3 or not all(is_number(one) and one >= least for one in values):
        expected = "three numbers above 0" if least > 0 else "three numbers"
        raise CheckpointError(f"{where}: {shown(value)}, but only {expected} can be converted: correct the file.")
    first, second, third = (float(one) for one in values)
    return first, second, third


def _conditioner(folder: Path, model: Fields, kind: str) -> tuple[Channels, Channels]:
    """What a RADIO itself subtracts and divides by: from its tensors, or from its config where it has none."""
    described = model.section("vision_config") if kind == _OMNI else model
    prefix = f"vision_model.{_CONDITIONER}" if kind == _OMNI else _CONDITIONER
    stored = ModelFolder(folder)
    both = []
    for name, default, least in (("norm_mean", CLIP_MEAN, -LARGEST_NUMBER), ("norm_std", CLIP_STD, _LEAST)):
        if f"{prefix}{name}" in stored.shapes:
            tensor = stored.read(f"{prefix}{name}", None)
            both.append(_three(tensor.double().flatten().tolist(), f"{folder}: {prefix}{name}", least))
        else:
            both.append(_channels(described, (name,), default, least))
    mean, std = both
    return mean, std


def _content(file: Path) -> dict[str, Any] | None:
    """A file's object, None where there is no such file; raises CheckpointError."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: cannot be read ({error}), expected JSON; {_REMEDY}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: holds no object, expected keys and values; {_REMEDY}")
    return content
