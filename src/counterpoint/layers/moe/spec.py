"""Section and facts of a mixture of experts, without torch."""

from collections.abc import Iterator
from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.keeps import inner_keeps, norm_keeps
from counterpoint.kinds.layer import LayerKind
from counterpoint.kinds.names import GATED
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.layers.mlp.spec import DecoderActivation
from counterpoint.layers.normed import NormedSection, kept_by_norms, with_norms
from counterpoint.plan import tensors
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps, Kept
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.tensors import products
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Index, NonNegative, Positive, Section

RouterKind = Literal["softmax", "sigmoid"]


class MoeConfig(Section):
    """A dropless mixture of experts."""

    experts: Count
    """Experts of a layer; ep must divide them. Unit: experts."""
    top_k: Count
    """Experts that each row is routed to, at most `experts`. Unit: experts."""
    ffn: Count
    """Inner width of each expert; etp must divide it. Unit: columns."""
    shared_ffn: Index = 0
    """Inner width of the shared expert, which every row passes; 0: there is none. tp must divide it. Unit: columns."""
    router: RouterKind = "softmax"
    """How the router's logits become scores: `softmax` over all experts, or `sigmoid` of each."""
    normalize: bool = True
    """Whether the scores of a row's chosen experts are divided by their sum before they weigh the experts' outputs."""
    scale: Positive = 1.0
    """Factor on the routing weights. No unit."""
    bias_rate: NonNegative | None = None
    """How much the expert bias moves towards an even load after each step (Wang et al., 2024, arXiv:2408.15664); null:
    there is no expert bias. No unit."""
    balance: NonNegative = 0.0
    """Weight of the load-balancing loss, a mean over documents; 0: there is none. No unit."""


class MoeLayerConfig(MoeConfig, NormedSection):
    """A layer of a mixture of experts."""

    kind: Literal["moe"]
    activation: DecoderActivation = "swiglu"
    """Activation of the experts; `swiglu` and `geglu_tanh` are gated and have a third matrix."""


def _facts(name: str, section: MoeLayerConfig, hidden: int) -> PartFacts:
    is_gated = section.activation in GATED
    wide, narrow = (section.experts, section.ffn, hidden), (section.experts, hidden, section.ffn)
    stacks = {**({"gate": wide} if is_gated else {}), "up": wide, "down": narrow}
    shared = (
        tensors.mlp("moe.shared", hidden, section.shared_ffn, hidden, bias=False, is_gated=is_gated)
        if section.shared_ffn
        else ()
    )
    router = (("moe.router.weight", (section.experts, hidden)),)
    met = section.top_k * len(stacks) * hidden * section.ffn
    return PartFacts(
        name=name,
        tensors=with_norms(
            section, hidden, (*router, *((f"moe.experts.{key}", shape) for key, shape in stacks.items()), *shared)
        ),
        flops_per_row=2 * met + products(shared) + products(router),
        # The layer's norm is no part of a compiled region.
        kept=_norms_keep(section, hidden)
        + _routing_keeps(section, hidden)
        + inner_keeps(section.activation, section.shared_ffn)
        + inner_keeps(section.activation, section.top_k * section.ffn, cut="inner", is_weighed=True),
        # Backward has the gradients of the experts' inputs, outputs and inner values, and the rows that travel.
        working=(
            Kept(2 * section.top_k * hidden, cut="choices"),
            Kept((len(stacks) - 1) * section.top_k * section.ffn, cut="inner"),
            Kept(2 * hidden, cut="choices"),
        ),
        hidden_out=hidden,
        active_expert_parameters=met,
        mixtures=(("moe", section.experts),),
    )


def _norms_keep(section: MoeLayerConfig, hidden: int) -> Keeps:
    """Beside the norms a wide copy of the normed rows, which the router reads; the shared expert keeps these."""
    if section.shared_ffn:
        normed = kept_by_norms(section, hidden, is_compiled=False)
        return normed + Keeps.alike(Kept(hidden, "widened", "rows"))
    after = norm_keeps("rms", hidden) if section.post_norm else KEEPS_NOTHING
    return norm_keeps("rms", hidden) + after + Keeps.alike(Kept(hidden, "wide", "rows"))


def _routing_keeps(section: MoeLayerConfig, hidden: int) -> Keeps:
    """The router's scores, the choices and their weights, and the rows that the experts read."""
    scores = section.experts * (1 if section.router == "softmax" else 2)
    return Keeps.alike(
        Kept(scores + section.top_k + 2, "wide", "rows"),
        Kept(section.top_k, "int64", "rows"),
        Kept(section.top_k, "wide", "choices"),
        Kept(2 * section.top_k, "int32", "choices"),
        Kept(section.top_k * hidden, cut="choices", is_read=True),
    )


def moe_problems(where: str, section: MoeConfig) -> Iterator[Problem]:
    """A problem if `top_k` exceeds `experts`."""
    if section.top_k > section.experts:
        yield Problem(
            f"{where}.top_k", f"{section.top_k}", f"at most {where}.experts, {section.experts}", "change one of them"
        )


def _cuts(section: MoeLayerConfig) -> Cuts:
    return Cuts(tp={"shared_ffn": section.shared_ffn}, ep={"experts": section.experts}, etp={"ffn": section.ffn})


MOE = LayerKind(
    section=MoeLayerConfig,
    facts=_facts,
    cuts=_cuts,
    problems=lambda where, section, _hidden: moe_problems(where, section),
    layer="counterpoint.layers.moe.model:layer",
    rules=(
        TensorRule("*.moe.router.weight", "share"),
        TensorRule("*.moe.experts.*", "expert"),
        TensorRule("*.moe.shared.down.weight", "inputs"),
        TensorRule("*.moe.shared.*", "outputs"),
    ),
    initial=(Initial("*layers.*.experts.down", std=0.02, residual=True),),
    steers=("balance",),
)
