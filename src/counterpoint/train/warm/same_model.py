"""Whether two configs have the same models: what names, shapes or reads the stored tensors, by key."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from counterpoint.config.load import load_run_config
from counterpoint.config.models import DecoderConfig, ModelConfig
from counterpoint.config.run_files import CONFIG_FILE
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError

_SHOWN_BY_SHAPES = ("vocab", "positions", "inputs")
"""Keys that say nothing beyond the shapes, and may say it in several ways."""


def model_keys(config: Config) -> dict[str, Any]:
    """What describes the stored tensors of all modules, by key."""
    found: dict[str, Any] = {}
    for name, module in config.modules.items():
        found |= _keys_of(module.model, f"modules.{name}.model")
    return found


def first_other_key(run: Path, module: str, model: ModelConfig, left_out: Collection[str] = ()) -> str | None:
    """The first key in which a run's module is of another model, with both values; None without one, or a config.

    Sections of the model named in `left_out` may differ.
    """
    try:
        before = load_run_config(run / CONFIG_FILE).modules
    except ConfigError:
        return None
    if module not in before:
        return None
    old, new = _keys_of(before[module].model, "model"), _keys_of(model, "model")
    for key in sorted(old.keys() | new.keys()):
        if key.split(".")[1] not in (*_SHOWN_BY_SHAPES, *left_out) and old.get(key) != new.get(key):
            return f"{key} was {old.get(key)!r} there, got {new.get(key)!r}"
    return None


def _keys_of(model: ModelConfig, path: str) -> dict[str, Any]:
    """All of a model but how its training is steered, and what makes its input, which belongs to the data."""
    found = _leaves(model.model_dump(mode="json"), path)
    if isinstance(model, DecoderConfig):
        # Left out or written out, they are the same model.
        found |= {f"{path}.kv_heads": model.num_kv_heads, f"{path}.head_dim": model.head_size}
    for key, value in found.items():
        if key.endswith(".moe.bias_rate"):
            # A number is a buffer, whatever the number; without one there is none.
            found[key] = value is not None
    items = tuple(f"{path}.{section}." for section in ("image", "audio"))
    return {
        key: value
        for key, value in found.items()
        if not key.endswith((".moe.balance", ".mamba.chunk", ".mtp.weight")) and not key.startswith(items)
    }


def _leaves(tree: Mapping[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _leaves(value, f"{path}.{key}") if isinstance(value, dict) else {f"{path}.{key}": value}
    return found
