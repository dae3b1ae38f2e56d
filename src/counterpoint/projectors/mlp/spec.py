"""A norm and two linear layers with an activation between them, before torch."""

from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.keeps import inner_keeps
from counterpoint.kinds.projector import ProjectorFacts, ProjectorKind, ProjectorSection
from counterpoint.plan.tensors import mlp, products
from counterpoint.section.section import Count


class MlpProjectorConfig(ProjectorSection):
    """A norm and two linear layers with an activation between them, from the encoder's width to the target's."""

    kind: Literal["mlp"]
    hidden: Count
    """Width between the two linear layers; tp must divide it. Unit: columns."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"] = "gelu_tanh"
    """Activation between the two linear layers."""
    bias: bool = True
    """Whether the linear layers have biases."""


def _facts(section: MlpProjectorConfig, inputs: int, outputs: int) -> ProjectorFacts:
    tensors = mlp("mlp", inputs, section.hidden, outputs, bias=section.bias)
    kept = inner_keeps(section.activation, section.hidden)
    return ProjectorFacts(tensors=tensors, flops_per_row=products(tensors), kept=kept)


MLP = ProjectorKind(
    section=MlpProjectorConfig,
    facts=_facts,
    cuts=lambda section: Cuts(tp={"hidden": section.hidden}),
    part="counterpoint.projectors.mlp.model:part",
)
