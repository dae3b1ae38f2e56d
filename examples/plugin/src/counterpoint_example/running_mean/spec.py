"""A layer whose rows see the mean of the rows before them, before torch."""

from collections.abc import Iterator
from typing import Literal

from counterpoint.extend import (
    Count,
    Cuts,
    Initial,
    Keeps,
    Kept,
    LayerKind,
    NormedSection,
    PartFacts,
    Problem,
    TensorRule,
    Tensors,
    kept_by_norms,
    linear,
    products,
    with_norms,
)


class RunningMeanSection(NormedSection):
    """A gated mean of what each row and those before it in its document hold, head by head."""

    kind: Literal["running_mean"]
    """The layer."""
    mean_heads: Count
    """Heads, each with a gate of its own; they divide the model's width. Unit: heads."""


def mean_tensors(hidden: int, heads: int) -> Tensors:
    """Parameters of the sublayer `mean`, by name."""
    return (
        *linear("mean.values", hidden, hidden, bias=False),
        *linear("mean.gates", hidden, heads, bias=True),
        ("mean.gains", (heads,)),
        *linear("mean.o", hidden, hidden, bias=True),
    )


def _facts(name: str, section: RunningMeanSection, hidden: int) -> PartFacts:
    tensors = mean_tensors(hidden, section.mean_heads)
    return PartFacts(
        name=name,
        tensors=with_norms(section, hidden, tensors),
        flops_per_row=products(tensors),
        kept=kept_by_norms(section, hidden) + Keeps.alike(Kept(4 * hidden), Kept(2 * section.mean_heads)),
        hidden_out=hidden,
    )


def _problems(where: str, section: RunningMeanSection, hidden: int) -> Iterator[Problem]:
    if hidden % section.mean_heads:
        expected = f"a divisor of the model's hidden, {hidden}"
        yield Problem(f"{where}.mean_heads", f"{section.mean_heads}", expected, "change one of them")


def _cuts(section: RunningMeanSection) -> Cuts:
    heads = {"mean_heads": section.mean_heads}
    return Cuts(tp=heads, cp=heads)


MEAN_RULES = (
    TensorRule("*.mean.o.weight", "inputs"),
    TensorRule("*.mean.o.bias", "rows"),
    TensorRule("*.mean.*", "outputs"),
)
"""Heads are cut: values, gates and gains by what they make, the last linear by what it reads."""

MEAN_INITIAL = (Initial("*.mean.gains", mean=1.0),)

RUNNING_MEAN = LayerKind(
    section=RunningMeanSection,
    facts=_facts,
    cuts=_cuts,
    problems=_problems,
    layer="counterpoint_example.running_mean.model:layer",
    rules=MEAN_RULES,
    initial=MEAN_INITIAL,
)
