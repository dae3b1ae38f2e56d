"""Layouts that tests ask for."""

from typing import Any

from counterpoint.plan.placement import Request
from counterpoint.section.layout import ExpertLayoutConfig, LayoutConfig


def asked(module: str, *, ep: int = 1, etp: int = 1, **degrees: Any) -> Request:
    """A module and its layout."""
    return module, LayoutConfig(expert=ExpertLayoutConfig(ep=ep, etp=etp), **degrees)
