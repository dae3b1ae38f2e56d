"""A layer of an MLP."""

from counterpoint.layers.mlp.spec import MlpConfig
from counterpoint.layers.residual import MlpLayer
from counterpoint.models.mlp import mlp_of
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer


def layer(section: MlpConfig, hidden: int) -> Layer:
    """rows + mlp(norm(rows))."""
    mlp = mlp_of(section.activation, hidden, section.ffn, bias=section.bias)
    return MlpLayer(RmsNorm(hidden, section.norm_eps), mlp)
