"""Train multimodal models in which every module has its own parallel layout on its own ranks.

The names below are the public ones; each is imported when it is first used, so that `import counterpoint` is light.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Config": "counterpoint.config.schema",
    "CounterpointError": "counterpoint.errors",
    "Layout": "counterpoint.plan.layout",
    "Placement": "counterpoint.plan.placement",
    "Plan": "counterpoint.plan.plan",
    "Trainer": "counterpoint.train.loop",
    "build_plan": "counterpoint.setup.run",
    "check_plan": "counterpoint.check.proof",
    "load_config": "counterpoint.config.load",
    "register_module": "counterpoint.families.custom.register",
    "register_schedule": "counterpoint.plan.schedule",
}

_PACKAGES = ("simulate", "train", "verify")
"""Packages that are functions too (counterpoint.callable)."""

__all__ = sorted([*_HOMES, *_PACKAGES])


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"counterpoint.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'counterpoint' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
