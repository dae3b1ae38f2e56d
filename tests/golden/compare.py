"""Two trees' goldens side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

SHOWN = 5
"""Differences that are printed of each kind."""

_WIDEST = 160
"""Characters of a value that are printed."""


@dataclass(frozen=True)
class Kind:
    """How many values of a kind were compared, and where they differ: name and both values, None for a lack."""

    name: str
    compared: int
    differences: tuple[tuple[str, Any, Any], ...]

    def lines(self) -> Iterator[str]:
        """What is printed of it."""
        yield f"{self.name}: {self.compared} compared, {len(self.differences)} differ"
        for where, base, hand in self.differences[:SHOWN]:
            yield f"    {where}: {_shown(base)} -> {_shown(hand)}"
        if len(self.differences) > SHOWN:
            yield f"    and {len(self.differences) - SHOWN} more"


def compare(base: Mapping[str, Any], hand: Mapping[str, Any]) -> list[Kind]:
    """Every value of both by kind; what is on one side only differs, and a kind without any value too."""
    found = []
    for kind in sorted({*base, *hand}):
        ours, theirs = (dict(_leaves(side[kind], ())) if side.get(kind) else {} for side in (base, hand))
        names = list(dict.fromkeys([*ours, *theirs]))
        differences = [(name, ours.get(name), theirs.get(name)) for name in names if _differ(name, ours, theirs)]
        if not names:
            differences = [("all", None, None)]
        found.append(Kind(kind, len(names), tuple(differences)))
    return found


def _differ(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    is_both = name in ours and name in theirs
    # By their text: true is not 1, and 1.0 is not 1.
    return not is_both or repr(ours[name]) != repr(theirs[name])


def _leaves(tree: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, (*path, key))
    else:
        yield " | ".join(path), tree


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]} ..."
