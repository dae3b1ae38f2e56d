"""A norm and one linear layer."""

from torch import nn

from counterpoint.models.linear import Linear
from counterpoint.projectors.linear.spec import LinearProjectorConfig


def change(section: LinearProjectorConfig, inputs: int, outputs: int) -> tuple[str, nn.Module]:
    """What stands behind the norm, with its name."""
    return "linear", Linear(inputs, outputs, bias=section.bias)
