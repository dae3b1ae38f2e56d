"""The config.json of an exported folder, so that readers of transformers 4 and of transformers 5 see the same model."""

from collections.abc import Mapping
from typing import Any

_WORDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""torch's names of types, by safetensors'."""

_DTYPES = ("dtype", "torch_dtype")
_OF_TOWERS, _OLDER_DEFAULT = "axial", "mrope"
"""Kinds of positions: of rows and columns of a picture, whose section has one spelling, and of three axes of old."""

_TEXTS = ("text_config", "llm_config")
"""The section of a decoder, and its name in files that the authors of Nemotron-Omni published."""

_SECTIONS = (*_TEXTS, "vision_config", "audio_config", "sound_config", "encoder_config")


def with_both_spellings(config: Mapping[str, Any], dtype: str, *, changes_dtype: bool) -> dict[str, Any]:
    """The same model in the keys of both versions: `dtype` and `torch_dtype`, `rope_parameters` and what was before.

    `dtype` is the type of all tensors if it `changes_dtype`, else only where the config says none.
    """
    found = _with_dtype(config, _WORDS[dtype], changes_dtype=changes_dtype) | _rope(config)
    for key in _DTYPES:
        found.setdefault(key, _WORDS[dtype])
    for key in _SECTIONS:
        if isinstance(config.get(key), Mapping):
            section = _with_dtype(config[key], _WORDS[dtype], changes_dtype=changes_dtype)
            found[key] = section | (_rope(config[key]) if key in _TEXTS else {})
    return found


def with_vocabulary(config: Mapping[str, Any], vocabulary: int) -> dict[str, Any]:
    """The same model with so many words."""
    sections = [key for key in _TEXTS if isinstance(config.get(key), Mapping)]
    found = {**config, **{key: {**config[key], "vocab_size": vocabulary} for key in sections}}
    if "vocab_size" in config or not (sections or "text_config" in config):
        found["vocab_size"] = vocabulary
    return found


def _with_dtype(config: Mapping[str, Any], dtype: str, *, changes_dtype: bool) -> dict[str, Any]:
    found = {**config}
    said = [config[key] for key in _DTYPES if config.get(key) is not None]
    if said or changes_dtype:
        found |= dict.fromkeys(_DTYPES, dtype if changes_dtype else said[0])
    return found


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of rotary positions that a config lacks, from those that it has.

    `rope_parameters` and `rope_scaling` are the same section where both are there, since transformers 5 takes the older
    one and transformers 4 does not know the other; positions without scaling have no older section.
    """
    parameters, scaling = config.get("rope_parameters"), config.get("rope_scaling")
    if config.get("model_type") == "gemma3_text":
        return _by_layer(config)
    theta = config.get("rope_theta")
    section = scaling if isinstance(scaling, Mapping) and scaling else parameters
    if not isinstance(section, Mapping):
        return {} if theta is None else {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}
    kind = section.get("rope_type", section.get("type", "default"))
    if kind == _OF_TOWERS:
        return {}
    kind = "default" if kind == _OLDER_DEFAULT else kind
    theta = section.get("rope_theta", theta)
    named = {} if theta is None else {"rope_theta": theta}
    rest = {key: value for key, value in section.items() if key not in ("rope_type", "type", "rope_theta")}
    if not rest and kind == "default":
        return {"rope_parameters": {"rope_type": kind, **named}, **named}
    both = {"type": kind, "rope_type": kind, **rest, **named}
    return {"rope_parameters": both, "rope_scaling": both, **named}


_BASES = {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"}
"""Of Gemma 3, whose kinds of layers have rotary positions of their own: the older keys of their bases."""


def _by_layer(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of Gemma 3; what was scaled of old were the global layers."""
    parameters, scaling = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    found: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for kind, key in _BASES.items():
        section = {"rope_type": "default", **(scaling if key == "rope_theta" else {}), **parameters.get(kind, {})}
        theta = section.get("rope_theta", config.get(key))
        if theta is not None:
            section["rope_theta"] = found[key] = theta
        sections[kind] = section
    older = {key: value for key, value in sections["full_attention"].items() if key != "rope_theta"}
    scaled = {"rope_scaling": older} if older != {"rope_type": "default"} else {}
    return {"rope_parameters": sections, **scaled, **found}
