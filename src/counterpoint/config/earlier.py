"""Configs that runs of earlier versions wrote, in today's keys."""

from collections.abc import Mapping
from typing import Any

from counterpoint.modalities.images.spec import DEFAULT_SCALING

_TAKERS = {"image": ("vit", "custom"), "audio": ("whisper", "conformer")}
"""Kinds of models by the section that made their input."""


def is_of_today(data: Mapping[str, Any]) -> bool:
    """Whether plain data has no section that later versions have elsewhere."""
    section = data.get("data")
    return not isinstance(section, dict) or not _TAKERS.keys() & section.keys()


def as_of_today(data: dict[str, Any]) -> dict[str, Any]:
    """Plain data with `data.image` and `data.audio` moved into the modules that they were for, whose pixels were scaled
    with a mean and a deviation of 0.5 whatever a module started from.

    Data that no version wrote stay as they are, for the schema to refuse.
    """
    if is_of_today(data):
        return data
    before = {key: data["data"].get(key) or {} for key in _TAKERS}
    if not all(isinstance(section, Mapping) for section in (*before.values(), data.get("modules"))):
        return data
    values = {
        "image": {**before["image"], **DEFAULT_SCALING._asdict()},
        "audio": {"seconds": before["audio"].get("seconds") or "own"},
    }
    return {
        **data,
        "data": {key: value for key, value in data["data"].items() if key not in _TAKERS},
        "modules": {name: _with_items(module, values) for name, module in data["modules"].items()},
    }


def _with_items(module: Any, values: Mapping[str, Any]) -> Any:
    model = module.get("model") if isinstance(module, Mapping) else None
    if not isinstance(model, Mapping):
        return module
    added = {key: values[key] for key, kinds in _TAKERS.items() if model.get("kind") in kinds}
    return {**module, "model": {**added, **model}}
