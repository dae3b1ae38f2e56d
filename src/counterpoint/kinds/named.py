"""What is named rather than imported, so that who knows its name need not load it: torch, above all."""

from importlib import import_module
from typing import Any


def named(place: str) -> Any:
    """The object of a place, `package.module:name`, whose module is imported by the first call."""
    module, _colon, name = place.partition(":")
    return getattr(import_module(module), name)
