"""A norm and one linear layer, before torch."""

from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.projector import ProjectorFacts, ProjectorKind, ProjectorSection
from counterpoint.kinds.rules import TensorRule
from counterpoint.plan.tensors import linear, products


class LinearProjectorConfig(ProjectorSection):
    """A norm and one linear layer, from the encoder's width to the target's."""

    kind: Literal["linear"]
    bias: bool = True
    """Whether the linear layer has a bias."""


def _facts(section: LinearProjectorConfig, inputs: int, outputs: int) -> ProjectorFacts:
    tensors = linear("linear", inputs, outputs, section.bias)
    return ProjectorFacts(tensors=tensors, flops_per_row=products(tensors))


LINEAR = ProjectorKind(
    section=LinearProjectorConfig,
    facts=_facts,
    cuts=lambda _section: Cuts(),
    part="counterpoint.projectors.linear.model:part",
    rules=(TensorRule("projector.linear.*", "rows"), TensorRule("taps.*.linear.*", "rows")),
)
