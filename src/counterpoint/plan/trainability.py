"""Which parameters of a module are trained: all, none, or those whose names fit a pattern (design D15)."""

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from counterpoint.errors import ConfigError
from counterpoint.plan.model_facts import ModelFacts

Train = str | tuple[str, ...]
"""`all`, `none`, or shell-style patterns of parameter names inside the module."""


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """What is trained of one part: the elements of its trained tensors, and whether there is such a tensor."""

    elements: int
    is_trained: bool


def is_trained(name: str, train: Train) -> bool:
    """Whether a parameter is trained; `name` is the one that it has in its module."""
    if isinstance(train, str):
        return train == "all"
    return any(fnmatchcase(name, pattern) for pattern in train)


def trained_parts(module: str, facts: ModelFacts, train: Train) -> tuple[TrainedPart, ...]:
    """What is trained of each part of a module; raises ConfigError for a pattern that fits no parameter."""
    names = list(_names(facts))
    for number, pattern in enumerate(() if isinstance(train, str) else train):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(_no_parameter(f"modules.{module}.train.{number}", pattern, names))
    return tuple(
        TrainedPart(sum(elements for _name, elements in found), bool(found))
        for found in (
            [tensor for tensor in part.tensors if is_trained(f"{part.name}.{tensor[0]}", train)] for part in facts.parts
        )
    )


def _names(facts: ModelFacts) -> Iterator[str]:
    for part in facts.parts:
        for name, _elements in part.tensors:
            yield f"{part.name}.{name}"


def _no_parameter(where: str, pattern: str, names: list[str]) -> str:
    alike = get_close_matches(pattern, names, n=1, cutoff=0.0)
    return (
        f"{where}: got {pattern!r}, which fits no parameter of the module, expected a pattern of names like "
        f"{alike[0]!r}; correct it or remove it"
    )
