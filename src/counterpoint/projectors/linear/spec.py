"""A norm and one linear layer, before torch."""

from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.projector import ProjectorKind, ProjectorSection
from counterpoint.kinds.rules import TensorRule
from counterpoint.plan.tensors import Tensors, linear


class LinearProjectorConfig(ProjectorSection):
    """A norm and one linear layer, affine where it has a bias, from the encoder's width to the target's."""

    kind: Literal["linear"]
    bias: bool = True


def _tensors(section: LinearProjectorConfig, inputs: int, outputs: int) -> Tensors:
    return linear("linear", inputs, outputs, section.bias)


LINEAR = ProjectorKind(
    section=LinearProjectorConfig,
    tensors=_tensors,
    kept=lambda _section, inputs: inputs,
    cuts=lambda _section: Cuts(),
    change="counterpoint.projectors.linear.model:change",
    rules=(TensorRule("projector.linear.*", "rows"), TensorRule("taps.*.linear.*", "rows")),
)
