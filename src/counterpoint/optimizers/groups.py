"""Groups of a module's parameters, by patterns of their names: each has its own learning rate and update."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import get_args

from counterpoint.optimizers.kind import OptimizerSection

OTHERS = "others"
"""The parameters of a module with groups that are in none."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Some parameters of a module: what they are called in metrics, and the section that holds for them."""

    name: str
    section: OptimizerSection


def parameter_groups(section: OptimizerSection) -> tuple[ParameterGroup, ...]:
    """The groups of a module's optimizer in order; the last is of the parameters that are in no other."""
    groups = []
    for group in section.groups:
        own = {key: getattr(group, key) for key in type(group).model_fields if key != "match"}
        given = {key: value for key, value in own.items() if value is not None}
        groups.append(ParameterGroup(group.match, section.model_copy(update={**given, "groups": ()})))
    return (*groups, ParameterGroup(OTHERS, section.model_copy(update={"groups": ()})))


def group_number(patterns: Sequence[str], name: str) -> int:
    """The number of the first of the patterns that fits a parameter's name in its module, their number if none does."""
    return next((n for n, pattern in enumerate(patterns) if fnmatchcase(name, pattern)), len(patterns))


def keys_of_groups(section: OptimizerSection) -> frozenset[str]:
    """The keys that groups of a module's optimizer may have."""
    (group, *_more) = get_args(type(section).model_fields["groups"].annotation)
    return frozenset(group.model_fields)


def patterns_of(section: OptimizerSection) -> tuple[str, ...]:
    """The patterns of a module's groups, in order."""
    return tuple(group.match for group in section.groups)
