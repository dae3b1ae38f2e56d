"""Learned queries that look at the rows of an item and leave in their place, before torch."""

from collections.abc import Iterator
from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.names import NormKind
from counterpoint.kinds.projector import ProjectorFacts, ProjectorKind, ProjectorSection
from counterpoint.kinds.rules import TensorRule
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.tensors import joined, linear, mlp, norm, products
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count


class ResamplerConfig(ProjectorSection):
    """Learned queries attend to the rows of each item and leave in their place, whatever the item's size.

    One layer of cross-attention, of which the Perceiver resampler and the Q-Former have several (Alayrac et al., 2022,
    arXiv:2204.14198; Li et al., 2023, arXiv:2301.12597), and an MLP to the target's width, each after a norm.
    """

    kind: Literal["resampler"]
    norm: NormKind = "layer"
    queries: Count
    """Learned rows that stand for each item. Unit: rows."""
    hidden: Count
    """Width of the queries and of attention, a multiple of `heads`. Unit: columns."""
    heads: Count
    """Attention heads; tp must divide them, and cp those of a tensor-parallel rank. Unit: heads."""
    ffn: Count
    """Inner width of the MLP; tp must divide it. Unit: columns."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2"] = "gelu_tanh"
    """Activation of the MLP."""
    bias: bool = True
    """Whether the linear layers have biases."""


def _facts(section: ResamplerConfig, inputs: int, outputs: int) -> ProjectorFacts:
    hidden, bias = section.hidden, section.bias
    looking = linear("attention.q", hidden, hidden, bias)
    seen = joined(linear(f"attention.{piece}", inputs, hidden, bias) for piece in "kv")
    leaving = linear("attention.o", hidden, hidden, bias)
    last = mlp("mlp", hidden, section.ffn, outputs, bias=bias)
    table = (("attention.queries", (section.queries, hidden)),)
    return ProjectorFacts(
        tensors=(*table, *looking, *seen, *leaving, *norm("mlp_norm", hidden, section.norm), *last),
        flops_per_row=products(seen),
        flops_per_query=4 * hidden,
        flops_per_item=section.queries * products((*leaving, *last)),
        kept=Keeps.alike(Kept(2 * hidden)),
    )


def _cuts(section: ResamplerConfig) -> Cuts:
    heads = {"heads": section.heads}
    return Cuts(tp={**heads, "ffn": section.ffn}, cp=heads)


def _problems(where: str, section: ResamplerConfig) -> Iterator[Problem]:
    if section.hidden % section.heads:
        expected = f"a multiple of {where}.heads, {section.heads}"
        yield Problem(f"{where}.hidden", f"{section.hidden}", expected, "change one of them")


RESAMPLER = ProjectorKind(
    section=ResamplerConfig,
    facts=_facts,
    cuts=_cuts,
    part="counterpoint.projectors.resampler.model:part",
    queries=lambda section: section.queries,
    problems=_problems,
    rules=(
        TensorRule("*.attention.queries", "share"),
        TensorRule("*.attention.[qkv].*", "outputs"),
        TensorRule("*.attention.o.weight", "inputs"),
        TensorRule("*.attention.o.bias", "rows"),
    ),
)
