"""Which gradients a weight action computes, said once more: by the layers that hold the parameters."""

from torch import nn

from counterpoint.families.vit.patches import PositionTable, PrefixTable
from counterpoint.families.whisper.model import Times
from counterpoint.layers.moe.experts import Experts
from counterpoint.layers.moe.router import Router
from counterpoint.models.embedding import Embedding
from counterpoint.models.head import Head
from counterpoint.models.linear import Linear, OutputLinear

HOLDERS = (Linear, OutputLinear, Embedding, Head, Experts, PositionTable, PrefixTable, Router, Times)


def deferred_names(chain: nn.Module) -> set[str]:
    """The names of all parameters of linears, tables, experts and routers."""
    return {
        f"{name}.{leaf}"
        for name, module in chain.named_modules()
        if isinstance(module, HOLDERS)
        for leaf, _parameter in module.named_parameters(recurse=False)
    }
