"""Comparison of the models of two runs by the keys that determine names, shapes or meaning of stored tensors."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from counterpoint.config.load import read_run_config
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import ModuleConfig
from counterpoint.errors import ConfigError
from counterpoint.families import family_of, meaning_of
from counterpoint.kinds.family import ModelSection

_SHOWN_BY_SHAPES = ("vocab", "positions", "inputs")
"""Keys that only determine shapes, which are compared anyway, and that may be written in several ways."""


def model_keys(modules: Mapping[str, ModuleConfig]) -> dict[str, Any]:
    """The keys and values of all modules that determine their stored tensors."""
    found: dict[str, Any] = {}
    for name, module in modules.items():
        found |= _keys_of(module.model, f"modules.{name}.model")
    return found


def first_other_key(run: Path, module: str, model: ModelSection, left_out: Collection[str] = ()) -> str | None:
    """The first key in which a module of a run differs from `model`, with both values.

    None if there is none, or if the run has no config.

    Sections of the model named in `left_out` may differ.
    """
    try:
        before = read_run_config(run / CONFIG_FILE).modules
        if module not in before:
            return None
        old, new = _keys_of(before[module].model, "model"), _keys_of(model, "model")
    except ConfigError:
        return None
    for key in sorted(old.keys() | new.keys()):
        if key.split(".")[1] not in (*_SHOWN_BY_SHAPES, *left_out) and old.get(key) != new.get(key):
            return f"{key} was {old.get(key)!r} there, got {new.get(key)!r}"
    return None


def _keys_of(model: ModelSection, path: str) -> dict[str, Any]:
    """The keys of a model without those that only affect training, and without its item section."""
    found = _leaves(meaning_of(model), path)
    switches = {f"{path}.{key}" for key in family_of(model).switches}
    return {key: value is not None if key in switches else _plain(value) for key, value in found.items()}


def _plain(value: Any) -> Any:
    """A value in its JSON form."""
    return list(value) if isinstance(value, tuple) else value


def _leaves(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{path}.{key}") if isinstance(value, dict) else {f"{path}.{key}": value}
    return found
