"""Every key of a model's section becomes the size of its name, and no other: training and verify build from these."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.plan.build import recomputed_kinds, sizes_of
from counterpoint.section.section import Section

PARITY = Path(__file__).parents[2] / "parity"
CONFORMER = {"kind": "conformer", "layers": 2, "hidden": 8, "heads": 2, "ffn": 12, "mels": 16, "stem_channels": 3}
BASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("tiny.yaml", "vision", {}),
    "decoder": ("tiny.yaml", "language", {}),
    "further tokens": ("tiny.yaml", "language", {"mtp": {"depths": 1, "pattern": "*-"}}),
    "scaled": ("tiny.yaml", "language", {"rope_scaling": {"factor": 4.0, "original_positions": 16}}),
    "experts": ("hybrid.yaml", "language", {}),
    "adapter": ("towers.yaml", "adapter", {}),
    "detail": ("towers.yaml", "detail", {}),
    "whisper": ("speech.yaml", "audio", {}),
    "conformer": ("speech.yaml", "audio", {**CONFORMER, "projector": {"kind": "linear"}}),
}
"""A file, a module of it, and keys in place of its model's, or of some of them."""

ABSENT: dict[str, Any] = {
    "rotary_theta": 7.0,
    "window": 3,
    "rope_sections": (1, 2, 3),
    "head_dim": 5,
    "bias_rate": 0.5,
    "ffn": 11,
    "kv_heads": 3,
    "rope_theta": 9.0,
}
"""Another value for keys that may be left out."""

UNLIKE = {"kind", "stride", "inputs"}
"""Keys with no size of their name."""

OF_FILES = {"image", "audio"}
"""Sections that say how files become rows, and nothing of the model."""


@pytest.mark.parametrize("base", BASES)
def test_a_key_becomes_the_size_of_its_name(base: str) -> None:
    config, module = _config(base)
    before = _sizes(config, module)
    changed = set()
    for path, value in _keys(config.modules[module].model):
        after = _sizes(_with(config, module, path, value), module)
        if path[-1] not in UNLIKE and path[0] not in OF_FILES:
            assert {key: after[key] for key in after if after[key] != before.get(key)} == {path: value}, path
            changed.add(path)
    assert len(changed) >= 7


def test_every_section_is_of_a_base() -> None:
    """What is left out by one base, so that its keys are not changed there, another one has."""
    absent: set[str] = set()
    present: set[str] = set()
    for base in BASES:
        config, module = _config(base)
        for key, value in config.modules[module].model:
            if value is None and key not in ABSENT:
                absent.add(key)
            elif isinstance(value, Section):
                present.add(key)
    assert absent - present - OF_FILES - UNLIKE == set()


@pytest.mark.parametrize(
    ("recompute", "language", "vision"), [("none", "", ""), ("full", "*-", "L"), (["L"], "", "L"), (["-"], "-", "")]
)
def test_layers_are_computed_again_by_their_kind(recompute: Any, language: str, vision: str) -> None:
    for module, kinds in (("language", language), ("vision", vision)):
        if isinstance(recompute, str) or kinds:
            data = load_config(PARITY / "tiny.yaml").resolved()
            data["modules"][module]["recompute"] = recompute
            assert recomputed_kinds(load_config(data), module) == frozenset(kinds)


def _sizes(config: Config, module: str) -> dict[tuple[str, ...], Any]:
    """Sizes by their path, those of nested ones behind the name of theirs."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in asdict(sizes_of(config, module, 41)).items():  # type: ignore[call-overload]
        found |= {(key, inner): entry for inner, entry in value.items()} if isinstance(value, dict) else {(key,): value}
    return found


def _keys(model: Section) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each key of a section and of those in it, with another value; a section that is left out has none."""
    for key in type(model).model_fields:
        value = getattr(model, key)
        if value is None and key not in ABSENT:
            continue
        if isinstance(value, Section):
            yield from (((key, *path), other) for path, other in _keys(value))
        else:
            yield (key,), _other(key, value)


def _other(key: str, value: Any) -> Any:
    match value:
        case None:
            return ABSENT[key]
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 1.5
        case str():
            return f"{value}x"
    return (*value, 9)


def _with(config: Config, module: str, path: tuple[str, ...], value: Any) -> Config:
    """The config with a key changed, whatever else says of the value."""
    model = config.modules[module].model
    *folders, key = path
    if folders:
        (folder,) = folders
        changed = model.model_copy(update={folder: getattr(model, folder).model_copy(update={key: value})})
    else:
        changed = model.model_copy(update={key: value})
    modules = {**config.modules, module: config.modules[module].model_copy(update={"model": changed})}
    return config.model_copy(update={"modules": modules})


def _config(base: str) -> tuple[Config, str]:
    file, module, keys = BASES[base]
    data = load_config(PARITY / file).resolved()
    model = data["modules"][module]["model"]
    data["modules"][module]["model"] = keys if "kind" in keys else model | keys
    return load_config(data), module
