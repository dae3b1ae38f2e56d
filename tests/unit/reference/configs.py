"""The configs that ship, and what they become when one place of theirs is changed."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from counterpoint.config.yaml_text import parse_yaml

ROOT = Path(__file__).parents[3]
SHIPPED = sorted([*ROOT.glob("examples/*.yaml"), *ROOT.glob("recipes/**/*.yaml")])

UNFIT: tuple[tuple[str, Any], ...] = (
    ("a section", {"nonsense": 1}),
    ("an empty list", []),
    ("a list of texts", ["nonsense"]),
    ("a text", "nonsense"),
    ("true", True),
    ("a fraction", 1.5),
    ("a negative number", -1),
    ("zero", 0),
    ("a number beyond all bounds", 10**21),
    ("null", None),
)
"""Values that most keys refuse, with what they are called."""

Path_ = tuple[str | int, ...]


class Mutant(NamedTuple):
    """A config that differs from one that ships in one place, and how."""

    file: Path
    change: str
    place: Path_
    data: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.file.name}: {'.'.join(map(str, self.place))}: {self.change}"


@cache
def read(file: Path) -> dict[str, Any]:
    """The plain data of a config, not to be changed."""
    data: dict[str, Any] = parse_yaml(file.read_text())
    return data


def mutants(every: int, first: int = 0) -> Iterator[Mutant]:
    """One of `every` changes of all configs that ship, from number `first` on, always the same ones."""
    number = 0
    for file in SHIPPED:
        for place, value in _places(read(file), ()):
            for change in _changes(place, value):
                if number % every == first:
                    yield Mutant(file, change, place, _changed(read(file), place, change))
                number += 1


def _places(value: Any, place: Path_) -> Iterator[tuple[Path_, Any]]:
    yield place, value
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        yield from _places(inner, (*place, name))


def _changes(place: Path_, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield "an unknown key"
    if place:
        yield "left out"
        yield from dict(UNFIT)


def _changed(data: dict[str, Any], place: Path_, change: str) -> dict[str, Any]:
    data = copy.deepcopy(data)
    if change == "an unknown key":
        _at(data, place)["nonsense"] = 1
    elif change == "left out":
        del _at(data, place[:-1])[place[-1]]
    else:
        _at(data, place[:-1])[place[-1]] = dict(UNFIT)[change]
    return data


def _at(data: Any, place: Path_) -> Any:
    for name in place:
        data = data[name]
    return data
