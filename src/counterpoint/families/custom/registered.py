"""Encoders that users bring: what is known of each, by the name by which configs call it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from counterpoint.registry import Registry

Options = Mapping[str, Any]
"""The config's `options` of one module."""

LinearRole = Literal["outputs", "inputs"]
"""What tensor parallelism cuts of a linear layer."""


class Measured(NamedTuple):
    """Shapes of a built module's parameters, and (outputs, inputs) of its linear layers, by name."""

    parameters: dict[str, tuple[int, ...]]
    linears: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomModule:
    """A registered encoder: what builds it, measures what that builds, and reads weights to start from, of options.

    `tensor_rules` are the roles of linear layers and `initial` (mean, std) of parameters, each by a pattern of names.
    """

    build: Callable[[Options], Any]
    measure: Callable[[Options], Measured]
    weights: Callable[[Options], Mapping[str, Any]] | None = None
    tensor_rules: Mapping[str, LinearRole] = field(default_factory=dict)
    initial: Mapping[str, tuple[float, float]] = field(default_factory=dict)


CUSTOM_MODULES = Registry[CustomModule]("module")
"""What configs may name; `counterpoint.register_module` adds to it."""


def fitting(spec: CustomModule, options: Options) -> Iterator[tuple[str, str, LinearRole, int]]:
    """(pattern, layer, role, what is cut) of the linear layers that tensor parallelism cuts."""
    for pattern, role in spec.tensor_rules.items():
        for name, (outputs, inputs) in spec.measure(options).linears.items():
            if fnmatchcase(name, pattern):
                yield pattern, name, role, outputs if role == "outputs" else inputs
