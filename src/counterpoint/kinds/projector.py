"""What a kind of projector tells the rest: it changes rows of an encoder into rows of the module that reads them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.names import NormKind
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps
from counterpoint.plan.tensors import Tensors
from counterpoint.section.problem import Problem
from counterpoint.section.section import Positive, Section


class ProjectorSection(Section):
    """The base of the sections of projectors, each of which begins with a norm."""

    kind: Any
    """The kind of projector."""
    norm: NormKind = "none"
    """Norm of the rows that enter the projector: `none`, `layer` (LayerNorm) or `rms` (RMSNorm)."""
    norm_eps: Positive = 1e-6
    """Added to the variance or mean square inside the projector's norms. No unit."""


P = TypeVar("P", bound=ProjectorSection)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorFacts:
    """What follows the norm of a projector.

    `tensors` are its parameters. FLOPs of forward are counted of a row, of a row with each of the queries, and once of
    an item; `kept` is what forward keeps of a row, beside the rows themselves.
    """

    tensors: Tensors
    flops_per_row: int
    kept: Keeps = KEEPS_NOTHING
    flops_per_query: int = 0
    flops_per_item: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectorKind(Generic[P]):
    """A kind of projector.

    `facts` are of (section, inputs, outputs). `cuts` are keys below `projector`. `part` is the place,
    `package.module:name`, of the function of (section, group, inputs, outputs) that builds it, norm included: `group`
    rows of an encoder lie side by side in `inputs` columns. One with `queries` hands on as many learned rows for each
    item in the place of the item's own, and finds them in the `sampled` of a batch.
    """

    section: type[P]
    facts: Callable[[P, int, int], ProjectorFacts]
    cuts: Callable[[P], Cuts]
    part: str
    queries: Callable[[P], int] = lambda _section: 0
    problems: Callable[[str, P], Iterator[Problem]] = lambda _where, _section: iter(())
    rules: tuple[TensorRule, ...] = ()
    initial: tuple[Initial, ...] = ()
