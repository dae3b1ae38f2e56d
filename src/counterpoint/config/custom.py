"""Encoders that users bring: what is known of each, by the name by which configs call it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from counterpoint.config.models import CustomConfig
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem, nearest, show

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


CUSTOM_MODULES: dict[str, CustomModule] = {}
"""What configs may name; `counterpoint.register_module` adds to it."""


def custom_problems(where: str, model: CustomConfig, layout: LayoutConfig) -> Iterator[Problem]:
    """What a registered encoder cannot do, each with its key."""
    spec = CUSTOM_MODULES.get(model.name)
    if spec is None:
        known = f"a registered name: {', '.join(CUSTOM_MODULES) or 'there is none'}"
        alike = nearest(model.name, CUSTOM_MODULES)
        remedy = "call counterpoint.register_module where the script that trains is imported, and start that script"
        yield Problem(
            f"{where}.model.name", show(model.name), known, remedy if alike is None else f"did you mean {alike}?"
        )
    why = "a registered module is one piece and sees whole images"
    yield from one_stage_problems(where, layout, ("pp", "chunks", "cp"), why)
    if spec is not None and layout.tp > 1 and not spec.tensor_rules:
        expected = f"1, because {model.name} was registered without tensor_rules"
        yield Problem(
            f"{where}.layout.tp", f"{layout.tp}", expected, "leave it out or register the roles of its linears"
        )


def one_stage_problems(where: str, layout: LayoutConfig, keys: tuple[str, ...], why: str) -> Iterator[Problem]:
    """What a module that cannot be cut into stages must not have, with the reason."""
    degrees = {"pp": layout.pp, "chunks": layout.chunks, "cp": layout.cp}
    for key in keys:
        if degrees[key] > 1:
            remedy = "leave it out; more ranks are more lanes"
            yield Problem(f"{where}.layout.{key}", f"{degrees[key]}", f"1, because {why}", remedy)
    if layout.split != "even":
        yield Problem(f"{where}.layout.split", f"{list(layout.split)}", f"even, because {why}", "leave it out")


def fitting(spec: CustomModule, options: Options) -> Iterator[tuple[str, str, LinearRole, int]]:
    """(pattern, layer, role, what is cut) of the linear layers that tensor parallelism cuts."""
    for pattern, role in spec.tensor_rules.items():
        for name, (outputs, inputs) in spec.measure(options).linears.items():
            if fnmatchcase(name, pattern):
                yield pattern, name, role, outputs if role == "outputs" else inputs


def is_cut_evenly(model: CustomConfig, tp: int) -> bool:
    """Whether a registered encoder can be cut over so many ranks."""
    spec = CUSTOM_MODULES[model.name]
    cut = [size for _pattern, _name, _role, size in fitting(spec, model.options)]
    return tp == 1 or (bool(cut) and all(size % tp == 0 for size in cut))
