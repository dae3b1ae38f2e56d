"""A norm and two linear layers with an activation between them."""

from counterpoint.models.mlp import ACTIVATIONS, Mlp
from counterpoint.models.norm import norm_of
from counterpoint.projectors.mlp.spec import MlpProjectorConfig
from counterpoint.projectors.part import Projector


def part(section: MlpProjectorConfig, group: int, inputs: int, outputs: int) -> Projector:
    """What merges `group` rows and changes their width."""
    mlp = Mlp(inputs, section.hidden, outputs, ACTIVATIONS[section.activation], bias=section.bias)
    return Projector(group, norm_of(section.norm, inputs, section.norm_eps), ("mlp", mlp))
