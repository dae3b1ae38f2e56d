"""A layer of an MLP."""

from torch import nn

from counterpoint.layers.mlp.spec import MlpConfig
from counterpoint.layers.residual import MlpLayer
from counterpoint.models.mlp import GatedMlp, Mlp, squared_relu
from counterpoint.models.norm import RmsNorm
from counterpoint.models.seams import Layer


def layer(section: MlpConfig, hidden: int) -> Layer:
    """rows + mlp(norm(rows))."""
    mlp: nn.Module
    if section.activation == "swiglu":
        mlp = GatedMlp(hidden, section.ffn, bias=section.bias)
    else:
        mlp = Mlp(hidden, section.ffn, hidden, squared_relu, bias=section.bias)
    return MlpLayer(RmsNorm(hidden, section.norm_eps), mlp)
