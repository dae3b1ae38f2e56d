"""A layer of an MLP."""

from counterpoint.layers.mlp.spec import MlpConfig
from counterpoint.layers.residual import MlpLayer, norms_of
from counterpoint.models.mlp import mlp_of
from counterpoint.models.seams import Layer


def layer(section: MlpConfig, hidden: int) -> Layer:
    """rows + post_norm(mlp(norm(rows)))."""
    mlp = mlp_of(section.activation, hidden, section.ffn, bias=section.bias)
    norm, post_norm = norms_of(section, hidden)
    return MlpLayer(norm, mlp, post_norm)
