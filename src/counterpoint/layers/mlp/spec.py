"""Section and facts of an MLP, without torch."""

from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.keeps import inner_keeps
from counterpoint.kinds.layer import LayerKind
from counterpoint.kinds.names import GATED
from counterpoint.kinds.rules import TensorRule
from counterpoint.layers.normed import NormedSection, kept_by_norms, with_norms
from counterpoint.plan import tensors
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.tensors import products
from counterpoint.section.section import Count

DecoderActivation = Literal["swiglu", "geglu_tanh", "relu2"]
"""Activations of decoders; the first two are gated."""


class MlpConfig(NormedSection):
    """A layer of an MLP."""

    kind: Literal["mlp"]
    ffn: Count
    """Inner width; tp must divide it. Unit: columns."""
    activation: DecoderActivation = "swiglu"
    """Activation of the MLP; `swiglu` and `geglu_tanh` are gated and have a third matrix."""
    bias: bool = False
    """Whether the linear layers have biases."""


def _facts(name: str, section: MlpConfig, hidden: int) -> PartFacts:
    is_gated = section.activation in GATED
    linears = tensors.mlp("mlp", hidden, section.ffn, hidden, bias=section.bias, is_gated=is_gated)
    return PartFacts(
        name=name,
        tensors=with_norms(section, hidden, linears),
        flops_per_row=products(linears),
        kept=kept_by_norms(section, hidden) + inner_keeps(section.activation, section.ffn),
        hidden_out=hidden,
    )


MLP_RULES = (
    TensorRule("*.mlp.gate.*", "outputs"),
    TensorRule("*.mlp.up.*", "outputs"),
    TensorRule("*.mlp.down.weight", "inputs"),
    TensorRule("*.mlp.down.bias", "rows"),
)

MLP = LayerKind(
    section=MlpConfig,
    facts=_facts,
    cuts=lambda section: Cuts(tp={"ffn": section.ffn}),
    layer="counterpoint.layers.mlp.model:layer",
    by_row=True,
    rules=MLP_RULES,
)
