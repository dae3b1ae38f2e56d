"""What a kind of layer tells a decoder that is made of such layers, and the rest of the package."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.plan.part_facts import PartFacts
from counterpoint.section.problem import Problem
from counterpoint.section.section import Section


class LayerSection(Section):
    """The base of the sections of layers."""

    kind: Any
    """The kind of layer."""


L = TypeVar("L", bound=LayerSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerKind(Generic[L]):
    """A residual layer of a decoder, rows (rows, hidden) -> the same.

    `facts(name, section, hidden)` counts it with the norms that it has; `cuts(section)` are keys of its section. Rows
    without a label need not pass layers that work `by_row` after the last one that mixes rows. Positions that it reads
    have `axes` coordinates, None where it reads none. `layer` is the place, `package.module:name`, of the function of
    (section, hidden) that builds it, a `Layer`. As of families, `resolved(section, hidden)` are the values of keys that
    a section may leave out, and those in `steers` say how it is trained or computed.
    """

    section: type[L]
    facts: Callable[[str, L, int], PartFacts]
    cuts: Callable[[L], Cuts]
    layer: str
    problems: Callable[[str, L, int], Iterator[Problem]] = lambda _where, _section, _hidden: iter(())
    by_row: bool = False
    axes: Callable[[L], int | None] = lambda _section: None
    rules: tuple[TensorRule, ...] = ()
    initial: tuple[Initial, ...] = ()
    resolved: Callable[[L, int], Mapping[str, Any]] = lambda _section, _hidden: {}
    steers: tuple[str, ...] = ()
