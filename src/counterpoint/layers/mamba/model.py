"""A layer of Mamba-2."""

from counterpoint.layers.mamba.spec import MambaLayerConfig
from counterpoint.layers.mamba.sublayer import Mamba
from counterpoint.layers.residual import MambaLayer, norms_of
from counterpoint.models.seams import Layer


def layer(section: MambaLayerConfig, hidden: int) -> Layer:
    """rows + post_norm(mamba(norm(rows)))."""
    norm, post_norm = norms_of(section, hidden)
    return MambaLayer(norm, Mamba(hidden, section, section.norm_eps), post_norm)
