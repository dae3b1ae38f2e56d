"""Folders as they lie on the hub: tiny models that transformers itself saves, in every form that its folders have."""

import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.unit.judge.hub_configs import FAMILIES, random_config
from tests.unit.judge.models import Config

__all__ = [
    "FAMILIES",
    "VARIANTS",
    "cases_of",
    "class_of",
    "config_in",
    "described",
    "load_hub_folder",
    "write_hub_folder",
]

REASON = "transformers, the judge of these models, is not installed (pip install 'transformers>=5.20')"
VARIANTS = ("whole", "published", "dropped", "again", "memory", "shards")
"""Forms of a folder:

- `whole`: every key in config.json, as transformers writes it, and one file of tensors;
- `published`: only keys that a published config.json has: none at its default, positions in the older spelling;
- `dropped`: `published` without the tensors that transformers ignores when missing, with those that it ignores when
  found;
- `again`: loaded from `whole` and saved again;
- `memory`: names and shapes of transformers' own modules;
- `shards`: several files with an index.
"""


def cases_of(in_suite: Set[tuple[str, str]]) -> list[ParameterSet]:
    """Every family in every form, three times; those `in_suite` run once in every run, the others if marked `more`."""
    return [
        pytest.param(
            family,
            seed,
            variant,
            marks=() if seed == 0 and (family, variant) in in_suite else pytest.mark.more,
            id=f"{family}-{variant}-{seed}",
        )
        for family in FAMILIES
        for variant in VARIANTS
        for seed in range(3)
    ]


def write_hub_folder(family: str, seed: int, variant: str, folder: Path) -> None:
    """Write a tiny random model of a family, in float64 and with the values that its code begins with, in one form."""
    quiet()
    torch.manual_seed(seed)
    config = random_config(family, seed)
    model = class_of(family, config)(described(config)).double()
    match variant:
        case "again":
            with tempfile.TemporaryDirectory() as once:
                model.save_pretrained(once)
                load_hub_folder(family, Path(once)).save_pretrained(folder)
        case "memory":
            model.save_pretrained(folder, save_original_format=False)
        case "shards":
            model.save_pretrained(folder, max_shard_size="4KB")
        case _:
            model.save_pretrained(folder)
    if variant in ("published", "dropped"):
        _write_config(folder, as_published(config_in(folder)))
    if variant == "dropped":
        _drop(folder, model)


def load_hub_folder(family: str, folder: Path) -> Any:
    """transformers' own model of a folder, in float64, with plain attention; it names nothing as missing or unknown."""
    quiet()
    loaded, said = class_of(family, config_in(folder)).from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    assert not any(said.values()), said
    return loaded.eval()


def class_of(family: str, config: Config) -> Any:
    """The class of transformers that a family's folder holds a model of."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    if family == "whisper with a head":
        return transformers.WhisperForConditionalGeneration
    kind = type(described(config))
    for mapping in (
        transformers.AutoModelForImageTextToText, transformers.AutoModelForCTC, transformers.AutoModelForCausalLM,
        transformers.AutoModel,
    ):  # fmt: skip
        if kind in mapping._model_mapping and family != "whisper":
            return mapping._model_mapping[kind]
    return transformers.AutoModel._model_mapping[kind]


def config_in(folder: Path) -> Config:
    """The content of a folder's config.json."""
    found: Config = in_python(json.loads((folder / "config.json").read_text()))
    return found


def in_python(value: Any) -> Any:
    """A copy of what lies in a file, in which transformers has a spelling of its own for infinity."""
    match value:
        case {"__float__": "Infinity"}:
            return float("inf")
        case dict():
            return {key: in_python(one) for key, one in value.items()}
        case list():
            return [in_python(one) for one in value]
        case _:
            return value


def as_published(config: Config) -> Config:
    """A config.json that describes the same model, without keys at their default and with the older spelling of
    positions."""
    meant = _resolved(config)
    return _pruned(_older(config, meant), meant)


def quiet() -> None:
    """Keep its progress bars and advice out of the tests' output."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()


def described(config: Config) -> Any:
    """transformers' own config of a config.json, with attention and experts as plain PyTorch."""
    transformers = pytest.importorskip("transformers", reason=REASON)
    content = {key: value for key, value in config.items() if key != "model_type"}
    made = transformers.AutoConfig.for_model(config["model_type"], **content)
    for one in (made, *(getattr(made, name) for name in made.sub_configs)):
        if one is not None:
            one._attn_implementation = one._experts_implementation = "eager"
    return made


def _resolved(config: Config) -> str:
    """Everything that transformers understands of a config.json."""
    content: str = described(config).to_json_string(use_diff=False)
    return content


def _means(config: Config, meant: str) -> bool:
    try:
        return _resolved(config) == meant
    except Exception:
        # Whatever its code says to a config that it does not take.
        return False


_NOT_DEFAULTS = frozenset({"model_type", "architectures", "dtype", "tie_word_embeddings"})
"""Keys that published files state."""


def _pruned(config: Config, meant: str) -> Config:
    found = config
    for path in list(_paths(config)):
        if path[-1] not in _NOT_DEFAULTS:
            shorter = _without(found, path)
            found = shorter if _means(shorter, meant) else found
    return found


def _paths(config: Config) -> Iterator[tuple[str, ...]]:
    """Every key, the sections' own after the sections, so that a section goes as a whole if it can."""
    for key, value in config.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, *rest) for rest in _paths(value))


def _without(config: Config, path: tuple[str, ...]) -> Config:
    first, *rest = path
    if not rest:
        return {key: value for key, value in config.items() if key != first}
    return {**config, first: _without(config[first], tuple(rest))} if first in config else config


def _older(config: Config, meant: str) -> Config:
    """The config with positions, and dtypes, as files before transformers 5 have them."""
    found: Config = {key: _older(value, "") if isinstance(value, dict) else value for key, value in config.items()}
    rope = found.pop("rope_parameters", None)
    if isinstance(rope, dict) and "rope_theta" in rope:
        scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
        found["rope_theta"] = rope["rope_theta"]
        if scaling != {"rope_type": "default"}:
            found["rope_scaling"] = scaling
    elif rope is not None:
        found["rope_parameters"] = rope
    if "dtype" in found:
        found["torch_dtype"] = found.pop("dtype")
    return found if not meant or _means(found, meant) else config


def _drop(folder: Path, model: Any) -> None:
    """Leave out what may be missing, and add what may be there as well."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    patterns = model._keys_to_ignore_on_load_missing or ()
    kept = {name: tensor for name, tensor in tensors.items() if not any(re.search(one, name) for one in patterns)}
    save_file({**kept, **_extra(model.config.model_type)}, file, metadata={"format": "pt"})


_INV_FREQ = "layers.0.self_attn.rotary_emb.inv_freq"
_EXTRA: Mapping[str, tuple[str, ...]] = {
    **{kind: (f"model.{_INV_FREQ}",) for kind in ("llama", "qwen2", "qwen3", "qwen3_moe", "qwen2_5_vl")},
    "qwen3_vl": (f"model.language_model.{_INV_FREQ}",),
    "clip_vision_model": ("vision_model.embeddings.position_ids",),
    "siglip_vision_model": ("vision_model.embeddings.position_ids",),
    "clip": ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"),
    "siglip": ("vision_model.embeddings.position_ids", "text_model.embeddings.position_ids"),
    "llava": (f"language_model.model.{_INV_FREQ}", "vision_tower.vision_model.embeddings.position_ids"),
    "nemotron_h": ("mtp.layers.0.norm.weight",),
    "nemotron_h_omni": ("language_model.mtp.layers.0.norm.weight", "sound_encoder.encoder.feature_extractor.fb"),
}  # fmt: skip
"""Tensors of older files, or of other programs, which transformers ignores."""


def _extra(kind: str) -> Mapping[str, Tensor]:
    return {name: torch.zeros(2) for name in _EXTRA.get(kind, ())}


def _write_config(folder: Path, config: Config) -> None:
    (folder / "config.json").write_text(json.dumps(_in_file(config), indent=2))


def _in_file(value: Any) -> Any:
    """The way back of `in_python`."""
    match value:
        case float() if value == float("inf"):
            return {"__float__": "Infinity"}
        case dict():
            return {key: _in_file(one) for key, one in value.items()}
        case list():
            return [_in_file(one) for one in value]
        case _:
            return value
