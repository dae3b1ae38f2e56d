"""A norm and two linear layers with an activation between them."""

from torch import nn

from counterpoint.models.mlp import ACTIVATIONS, Mlp
from counterpoint.projectors.mlp.spec import MlpProjectorConfig


def change(section: MlpProjectorConfig, inputs: int, outputs: int) -> tuple[str, nn.Module]:
    """What stands behind the norm, with its name."""
    return "mlp", Mlp(inputs, section.hidden, outputs, ACTIVATIONS[section.activation], bias=section.bias)
