"""A layer of a mixture of experts."""

from counterpoint.layers.moe.spec import MoeLayerConfig
from counterpoint.layers.moe.sublayer import Moe
from counterpoint.layers.residual import MoeLayer, norms_of
from counterpoint.models.seams import Layer


def layer(section: MoeLayerConfig, hidden: int) -> Layer:
    """rows + post_norm(moe(norm(rows)))."""
    norm, post_norm = norms_of(section, hidden)
    return MoeLayer(norm, Moe(hidden, section, section.activation), post_norm)
