"""A projector with a gate (Shazeer 2020, arXiv:2002.05202), before torch."""

from typing import Literal

from counterpoint.extend import (
    Count,
    Cuts,
    Keeps,
    Kept,
    ProjectorFacts,
    ProjectorKind,
    ProjectorSection,
    TensorRule,
    mlp,
    products,
)


class GatedSection(ProjectorSection):
    """A norm, and an MLP with a gate in the width of what reads the rows."""

    kind: Literal["gated"]
    """The projector."""
    inner: Count
    """Width between its linear layers. Unit: columns."""


def _facts(section: GatedSection, inputs: int, outputs: int) -> ProjectorFacts:
    tensors = mlp("gated", inputs, section.inner, outputs, bias=False, is_gated=True)
    return ProjectorFacts(tensors=tensors, flops_per_row=products(tensors), kept=Keeps.alike(Kept(4 * section.inner)))


GATED = ProjectorKind(
    section=GatedSection,
    facts=_facts,
    cuts=lambda section: Cuts(tp={"inner": section.inner}),
    part="counterpoint_example.gated.model:part",
    rules=(
        TensorRule("*.gated.gate.*", "outputs"),
        TensorRule("*.gated.up.*", "outputs"),
        TensorRule("*.gated.down.weight", "inputs"),
    ),
)
