"""What checkpoints of others are read as: sections of a config, and which of their tensors are which of ours."""

import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from counterpoint.convert.composite import CompositeModel, composite_of
from counterpoint.convert.modules import kept_tensors
from counterpoint.errors import CounterpointError
from tests.golden.cases import ROOT
from tests.golden.digest import digest, short
from tests.golden.written import Golden
from tests.unit.judge.converted import modules_from_ours, modules_to_ours
from tests.unit.judge.flips import flipped, flips_of
from tests.unit.judge.models import CONFIGS, random_like
from tests.unit.judge.whole_configs import FOLDERS, config_of

PUBLISHED = ROOT / "tests" / "unit" / "judge" / "published"
Config = dict[str, Any]


def hub_goldens(like: Mapping[str, Golden]) -> dict[str, Golden]:
    """By kind: sections and tensors of every config.json that the judge's tests write, and of each key changed.

    Sections have their keys as those that another tree read, `like`, so that their hashes can be compared.
    """
    transformers.logging.set_verbosity(logging.ERROR)
    found: dict[str, Golden] = {"read sections": {}, "converted tensors": {}, "changed keys": {}}
    for name, config in _configs():
        whole = composite_of(config)
        found["read sections"][name] = sections_of(whole, like.get(name, {}))
        if not name.startswith("published"):
            found["converted tensors"][name] = tensors_of(whole)
    for name, config in {**CONFIGS, **FOLDERS}.items():
        filled, keys = _filled_in(config), like.get(f"filled in {name}", {})
        found["changed keys"][name] = {str(flip): _answer(flipped(filled, flip), keys) for flip in flips_of(filled)}
    return found


def _configs() -> Iterator[tuple[str, Config]]:
    for name, config in {**CONFIGS, **FOLDERS}.items():
        yield name, config
        yield f"filled in {name}", _filled_in(config)
    for path in sorted(PUBLISHED.glob("*.json")):
        yield f"published {path.stem}", json.loads(path.read_text())


def _filled_in(config: Config) -> Config:
    """A config with all keys that transformers' own code writes."""
    kind = config["model_type"]
    if kind not in transformers.CONFIG_MAPPING:
        return config
    described = transformers.AutoConfig.for_model(kind, **{k: v for k, v in config.items() if k != "model_type"})
    filled: Config = json.loads(described.to_json_string(use_diff=False))
    return {key: value for key, value in filled.items() if key != "transformers_version"}


def sections_of(whole: CompositeModel, like: Golden) -> Golden:
    """The modules and edges of a run that has the sizes of a checkpoint, less defaults of keys that `like` lacks."""
    config = config_of(whole, Path("folder"), {})
    data = config.resolved()
    found = {
        f"{name} {key}": value
        for name, module in config.modules.items()
        for key, value in data["modules"][name]["model"].items()
        if not like or f"{name} {key}" in like or key in module.model.model_dump(exclude_defaults=True)
    }
    return {key: short(value) for key, value in _in_order(found | {"edges": data["edges"]}, like).items()}


def _in_order(value: Any, like: Any) -> Any:
    """A mapping with its keys in the order that those of another have, as far as it has them."""
    if not isinstance(value, dict) or not isinstance(like, dict):
        return value
    keys = dict.fromkeys((*(key for key in like if key in value), *value))
    return {key: _in_order(value[key], like.get(key)) for key in keys}


def tensors_of(whole: CompositeModel) -> Golden:
    """Of every tensor of a checkpoint, and of what it becomes, the shape and a hash of values that its name gives."""
    ours = {
        module: {name: _values(f"{module}.{name}", tensor) for name, tensor in kept_tensors(stored).items()}
        for module, stored in whole.modules.items()
    }
    theirs = modules_from_ours(whole, ours)
    found: Golden = {f"theirs {name}": _described(tensor) for name, tensor in theirs.items()}
    named = {name: _values(name, tensor) for name, tensor in theirs.items()}
    for module, tensors in modules_to_ours(whole, named).items():
        found |= {f"ours {module}.{name}": _described(tensor) for name, tensor in tensors.items()}
    return found


def _values(name: str, like: Tensor) -> Tensor:
    return random_like(like, torch.Generator().manual_seed(zlib.crc32(name.encode())))


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {digest(tensor.double().contiguous().numpy().tobytes())}"


def _answer(config: Config, like: Golden) -> str:
    """The refusal of a config.json, or a hash of what it is read as."""
    try:
        whole = composite_of(config)
    except CounterpointError as error:
        return f"{type(error).__name__}: {error}"
    try:
        return str(short(sections_of(whole, like)))
    except CounterpointError as error:
        return f"read, but no config: {type(error).__name__}: {error}"
