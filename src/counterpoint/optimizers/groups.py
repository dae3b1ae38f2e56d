"""Parameter groups of a module, by name pattern; each has its own learning rate and update."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import get_args

from counterpoint.optimizers.kind import OptimizerSection

OTHERS = "others"
"""The name of the group of all parameters that match no pattern."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """A parameter group: its name in metrics, and its optimizer section."""

    name: str
    section: OptimizerSection


def parameter_groups(section: OptimizerSection) -> tuple[ParameterGroup, ...]:
    """The groups of a module's optimizer in order; the last one, OTHERS, has all parameters without a match."""
    groups = []
    for group in section.groups:
        own = {key: getattr(group, key) for key in type(group).model_fields if key != "match"}
        given = {key: value for key, value in own.items() if value is not None}
        groups.append(ParameterGroup(group.match, section.model_copy(update={**given, "groups": ()})))
    return (*groups, ParameterGroup(OTHERS, section.model_copy(update={"groups": ()})))


def group_number(patterns: Sequence[str], name: str) -> int:
    """The index of the first pattern that matches a parameter's name, or the number of patterns if none does."""
    return next((n for n, pattern in enumerate(patterns) if fnmatchcase(name, pattern)), len(patterns))


def keys_of_groups(section: OptimizerSection) -> frozenset[str]:
    """The keys that the groups of an optimizer section may have."""
    (group, *_more) = get_args(type(section).model_fields["groups"].annotation)
    return frozenset(group.model_fields)


def patterns_of(section: OptimizerSection) -> tuple[str, ...]:
    """The patterns of a module's groups, in order."""
    return tuple(group.match for group in section.groups)
