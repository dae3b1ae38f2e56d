"""A layer of Mamba-2."""

from counterpoint.layers.mamba.spec import MambaLayerConfig
from counterpoint.layers.mamba.sublayer import Mamba
from counterpoint.layers.residual import MambaLayer
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer


def layer(section: MambaLayerConfig, hidden: int) -> Layer:
    """rows + mamba(norm(rows))."""
    return MambaLayer(RmsNorm(hidden, section.norm_eps), Mamba(hidden, section, section.norm_eps))
