"""A layer of a mixture of experts."""

from counterpoint.layers.moe.spec import MoeLayerConfig
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.layers.residual import MoeLayer
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer


def layer(section: MoeLayerConfig, hidden: int) -> Layer:
    """rows + moe(norm(rows))."""
    return MoeLayer(RmsNorm(hidden, section.norm_eps), Moe(hidden, section, section.activation))
