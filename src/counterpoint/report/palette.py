"""Colours: one accent per module, everything else in greys."""

from collections.abc import Iterable

ACCENTS = ("#2f6db5", "#c9622b", "#2e8b6a", "#7a57b0", "#b5476f", "#8a7a1f")
INK, MUTED, FAINT, LINE = "#1f2430", "#667085", "#98a2b3", "#e4e7ec"
SURFACE = "#f7f8fa"
GOOD = "#2e7d4f"
MEMORY = ("#344054", "#667085", "#98a2b3", "#c5ccd6", "#6f9fd8", "#b7cdea", "#eceef2")
"""Shades of a memory bar: parameters, gradients, optimizer, gathered, activations, working, allocator."""


def module_colours(modules: Iterable[str]) -> dict[str, str]:
    """An accent per module, in the given order; it depends only on names, so it is the same on every page."""
    names = list(modules)
    accents = {name: ACCENTS[number % len(ACCENTS)] for number, name in enumerate(sorted(names))}
    return {name: accents[name] for name in names}


def tint(colour: str, share: float) -> str:
    """A `#rrggbb` colour mixed with white; `share` is the share of the colour."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02x}" for channel in channels)
