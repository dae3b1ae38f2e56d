"""The registered image encoders, by their names in configs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from counterpoint.registry import Registry

Options = Mapping[str, Any]
"""The key `options` of a module's section."""

LinearRole = Literal["outputs", "inputs"]
"""The dim of a linear layer that tensor parallelism shards."""


class Measured(NamedTuple):
    """Shapes of a built module's parameters, and (outputs, inputs) of its linear layers, by name."""

    parameters: dict[str, tuple[int, ...]]
    linears: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomModule:
    """A registered encoder: functions of options that build it, measure it, and return its initial weights.

    `tensor_rules` are roles of linear layers and `initial` (mean, std) of parameters, both by name pattern.
    """

    build: Callable[[Options], Any]
    measure: Callable[[Options], Measured]
    weights: Callable[[Options], Mapping[str, Any]] | None = None
    tensor_rules: Mapping[str, LinearRole] = field(default_factory=dict)
    initial: Mapping[str, tuple[float, float]] = field(default_factory=dict)


CUSTOM_MODULES = Registry[CustomModule]("module")
"""The registered encoders; `counterpoint.register_module` adds to them."""


def fitting(spec: CustomModule, options: Options) -> Iterator[tuple[str, str, LinearRole, int]]:
    """(pattern, layer, role, size of the sharded dim) of each linear layer that tensor parallelism shards."""
    for pattern, role in spec.tensor_rules.items():
        for name, (outputs, inputs) in spec.measure(options).linears.items():
            if fnmatchcase(name, pattern):
                yield pattern, name, role, outputs if role == "outputs" else inputs
