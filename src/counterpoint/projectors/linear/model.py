"""A norm and one linear layer."""

from counterpoint.models.linear import Linear
from counterpoint.models.norm import norm_of
from counterpoint.projectors.linear.spec import LinearProjectorConfig
from counterpoint.projectors.part import Projector


def part(section: LinearProjectorConfig, group: int, inputs: int, outputs: int) -> Projector:
    """What merges `group` rows and changes their width."""
    linear = Linear(inputs, outputs, bias=section.bias)
    return Projector(group, norm_of(section.norm, inputs, section.norm_eps), ("linear", linear))
