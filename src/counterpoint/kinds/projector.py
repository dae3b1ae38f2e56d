"""What a kind of projector tells the rest: it changes rows of an encoder into rows of the module that reads them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.names import NormKind
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.plan.tensors import Tensors
from counterpoint.section.problem import Problem
from counterpoint.section.section import Positive, Section


class ProjectorSection(Section):
    """The base of the sections of projectors: each begins with a norm, whose `norm_eps` is for the root."""

    kind: Any
    norm: NormKind = "none"
    norm_eps: Positive = 1e-6


P = TypeVar("P", bound=ProjectorSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorKind(Generic[P]):
    """A kind of projector.

    `tensors(section, inputs, outputs)` are those of what stands behind the norm, and `kept` the elements that forward
    keeps of a row. `cuts` are keys below `projector`. `change` is the place, `package.module:name`, of the function of
    (section, inputs, outputs) that builds it, with the name that it has in the part.
    """

    section: type[P]
    tensors: Callable[[P, int, int], Tensors]
    kept: Callable[[P, int], int]
    cuts: Callable[[P], Cuts]
    change: str
    problems: Callable[[str, P], Iterator[Problem]] = lambda _where, _section: iter(())
    rules: tuple[TensorRule, ...] = ()
    initial: tuple[Initial, ...] = ()
