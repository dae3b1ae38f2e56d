"""A norm and two linear layers with an activation between them, before torch."""

from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.projector import ProjectorKind, ProjectorSection
from counterpoint.plan import tensors
from counterpoint.plan.tensors import Tensors
from counterpoint.section.section import Count


class MlpProjectorConfig(ProjectorSection):
    """A norm and two linear layers with an activation between them, from the encoder's width to the target's."""

    kind: Literal["mlp"]
    hidden: Count
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"] = "gelu_tanh"
    bias: bool = True


def _tensors(section: MlpProjectorConfig, inputs: int, outputs: int) -> Tensors:
    return tensors.mlp("mlp", inputs, section.hidden, outputs, bias=section.bias)


MLP = ProjectorKind(
    section=MlpProjectorConfig,
    tensors=_tensors,
    kept=lambda section, inputs: inputs + 2 * section.hidden,
    cuts=lambda section: Cuts(tp={"hidden": section.hidden}),
    change="counterpoint.projectors.mlp.model:change",
)
