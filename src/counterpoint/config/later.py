"""Keys that have their full type already but whose other values come with later work."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from counterpoint.config.keys import WILDCARD
from counterpoint.config.problem import Problem, show
from counterpoint.config.schema import Config


@dataclass(frozen=True, slots=True)
class Later:
    """A key, the feature behind it, whether a value works today, and what does."""

    key: str
    feature: str
    works: Callable[[Any], bool]
    today: str
    remedy: str = "leave the key out"


def _only(*values: object) -> Callable[[Any], bool]:
    return lambda value: value in values


LATER: tuple[Later, ...] = (Later("training.compile", "compilation", _only(False), "false"),)


def later_problems(config: Config) -> list[Problem]:
    """The values that are meant for later, each with what works today."""
    tree = config.resolved()
    return [
        Problem(
            path,
            show(value),
            f"{later.today} until {later.feature} is supported",
            later.remedy,
        )
        for later in LATER
        for path, value in _values_at(tree, later.key.split("."))
        if not later.works(value)
    ]


def _values_at(tree: Any, key: list[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """All (path, value) that a key with wildcards names; a key that this kind of section lacks names none."""
    if not key:
        yield path, tree
    elif isinstance(tree, dict):
        for name in tree if key[0] == WILDCARD else [key[0]]:
            if name in tree:
                yield from _values_at(tree[name], key[1:], f"{path}.{name}" if path else name)
