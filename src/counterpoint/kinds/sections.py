"""The sections of what is registered."""

from collections.abc import Callable, Mapping
from typing import Any

from counterpoint.registry import Registry
from counterpoint.section.section import Section


def sections_in(registry: Registry[Any]) -> Callable[[], Mapping[str, type[Section]]]:
    """What gives the sections of all kinds that a registry has by then, by their names."""

    def sections() -> Mapping[str, type[Section]]:
        return {name: kind.section for name, kind in registry.items()}

    return sections
