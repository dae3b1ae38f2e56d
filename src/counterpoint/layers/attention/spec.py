"""Sections and facts of grouped-query attention, without torch."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.keeps import core_keeps, norm_keeps
from counterpoint.kinds.layer import LayerKind
from counterpoint.kinds.rules import TensorRule
from counterpoint.layers.attention.rope import RopeScaling, scaling_problems
from counterpoint.layers.normed import NormedSection, kept_by_norms, with_norms
from counterpoint.plan.cost import Mask
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps, Kept
from counterpoint.plan.part_facts import Mixer, PartFacts
from counterpoint.plan.tensors import Tensors, linear, products
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Index, Positive, Section

RopeSections = Annotated[tuple[Index, Index, Index], Field(strict=False)]
"""Number of pairs of an attention head that rotate by time, by height and by width."""


class AttentionKeys(Section):
    """Keys of attention that decoders and attention layers share."""

    heads: Count
    """Attention heads; tp must divide them, and cp those of a tensor-parallel rank. Unit: heads."""
    kv_heads: Count | None = None
    """Heads of keys and values (grouped-query attention), a divisor of `heads`; null: `heads`. tp need not divide
    them: each piece that tp can cut is then held by several of its ranks. Unit: heads."""
    head_dim: Count | None = None
    """Width of one attention head, even where `rope_theta` rotates; null: `hidden` / `heads`. Unit: columns."""
    rope_theta: Positive | None = 10000.0
    """Base of the wavelengths of rotary positions (Su et al., 2021, arXiv:2104.09864); null: no rotary positions.
    No unit."""
    rope_sections: RopeSections | None = None
    """Pairs of a head that rotate by time, by height and by width (multimodal rotary positions), which together are all
    pairs that rotate; null: all rotate by the position in the document. Unit: pairs."""
    rope_interleaved: bool = False
    """Whether the pairs of `rope_sections` alternate between time, height and width, rather than lie in three
    blocks."""
    rope_width: Count | None = None
    """Columns of a head that rotate, from the first on; null: all, `head_dim`. Unit: columns."""
    rope_scaling: RopeScaling | None = None
    """Scaling of rotary positions for documents longer than those a model was trained on; null: none."""
    qk_norm: bool = False
    """Whether queries and keys pass an RMSNorm over each head before they rotate."""
    qkv_bias: bool = False
    """Whether the projections of queries, keys and values have biases."""
    window: Count | None = None
    """Sliding window: each row attends to this many last rows, itself included; null: to all earlier rows of its
    document. Unit: rows."""
    score_scale: Positive | None = None
    """Factor on the products of queries and keys before softmax; null: 1 / sqrt(`head_dim`). No unit."""

    @property
    def position_axes(self) -> int:
        """Coordinates of a position: one, or time, height and width."""
        return 1 if self.rope_sections is None else len(self.rope_sections)

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.heads if self.kv_heads is None else self.kv_heads

    def head_width(self, hidden: int) -> int:
        """Width of one attention head in rows of `hidden` columns."""
        return hidden // self.heads if self.head_dim is None else self.head_dim

    def rotating_width(self, hidden: int) -> int:
        """Number of columns of a head that rotate, if any do."""
        return self.head_width(hidden) if self.rope_width is None else self.rope_width


class AttentionConfig(AttentionKeys, NormedSection):
    """A layer of causal grouped-query attention."""

    kind: Literal["attention"]
    bias: bool = False
    """Whether all linear layers have biases; `qkv_bias` applies to queries, keys and values only."""

    @property
    def has_qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.bias or self.qkv_bias


def can_interleave(sections: tuple[int, int, int]) -> bool:
    """Whether alternating coordinates leave enough pairs: at most every third is height's, and every third width's."""
    _time, height, width = sections
    pairs = sum(sections)
    return 3 * height <= pairs + 1 and 3 * width <= pairs


def attention_tensors(section: AttentionConfig, hidden: int) -> Tensors:
    """The weights of attention."""
    head = section.head_width(hidden)
    queries, keys = section.heads * head, section.num_kv_heads * head
    return (
        *linear("attention.q", hidden, queries, section.has_qkv_bias),
        *linear("attention.k", hidden, keys, section.has_qkv_bias),
        *linear("attention.v", hidden, keys, section.has_qkv_bias),
        *linear("attention.o", queries, hidden, section.bias),
    )


def _facts(name: str, section: AttentionConfig, hidden: int) -> PartFacts:
    head = section.head_width(hidden)
    queries, keys = section.heads * head, section.num_kv_heads * head
    linears = attention_tensors(section, hidden)
    head_norms = tuple((f"attention.{piece}_norm.weight", (head,)) for piece in "qk" if section.qk_norm)
    return PartFacts(
        name=name,
        tensors=with_norms(section, hidden, (*linears, *head_norms)),
        flops_per_row=products(linears),
        flops_per_pair=((Mask(causal=True, window=section.window), 4 * queries),),
        kept=kept_by_norms(section, hidden)
        + _head_norms_keep(section, queries, keys)
        + core_keeps(queries, keys, section.heads),
        # Kernels add up the gradient of queries in float32.
        working=(Kept(queries), Kept(queries, "wide")),
        groups=section.num_kv_heads,
        mixers=(Mixer(section.heads, section.num_kv_heads, head),),
        hidden_out=hidden,
    )


def _head_norms_keep(section: AttentionConfig, queries: int, keys: int) -> Keeps:
    """What the norms of queries and keys keep; rotated heads are kept by the kernel."""
    heads = section.heads + section.num_kv_heads
    return norm_keeps("rms", queries + keys, heads=heads, cut="columns") if section.qk_norm else KEEPS_NOTHING


def _cuts(section: AttentionConfig) -> Cuts:
    return Cuts(tp={"heads": section.heads}, cp={"heads": section.heads})


def head_problems(where: str, section: AttentionKeys, hidden: int, *, rotates: bool = True) -> Iterator[Problem]:
    """Problems of heads: they do not divide the hidden size, or have a width that cannot be rotated."""
    if section.head_dim is None and hidden % section.heads:
        remedy = f"change one of them or set {where}.head_dim"
        yield Problem(f"{where}.hidden", f"{hidden}", f"a multiple of {where}.heads, {section.heads}", remedy)
    elif rotates and section.rope_theta and section.rotating_width(hidden) % 2:
        yield Problem(
            f"{where}.{'head_dim' if section.rope_width is None else 'rope_width'}",
            f"{section.rotating_width(hidden)}",
            f"an even width, because {where}.rope_theta rotates pairs",
            "change it or set rope_theta to null",
        )
    elif section.rope_width is not None and section.rope_width > section.head_width(hidden):
        expected = f"at most the width of a head, {section.head_width(hidden)}"
        yield Problem(f"{where}.rope_width", f"{section.rope_width}", expected, "change it or leave it out")
    if section.heads % section.num_kv_heads:
        yield Problem(
            f"{where}.kv_heads",
            f"{section.num_kv_heads}",
            f"a divisor of {where}.heads, {section.heads}",
            "change one of them",
        )


def rope_problems(where: str, section: AttentionKeys, hidden: int) -> Iterator[Problem]:
    """Inconsistent keys of rotary positions."""
    sections, scaling = section.rope_sections, section.rope_scaling
    if scaling is not None and section.rope_theta is None:
        yield Problem(f"{where}.rope_scaling", "a value", f"null, because {where}.rope_theta is null", "change one")
    if section.rope_width is not None and section.rope_theta is None:
        expected = f"null, because {where}.rope_theta is null"
        yield Problem(f"{where}.rope_width", f"{section.rope_width}", expected, "change one")
    if scaling is not None:
        yield from scaling_problems(where, scaling, section.rotating_width(hidden), section.rope_theta)
    if sections is None:
        if section.rope_interleaved:
            expected = f"false, because {where}.rope_sections is null"
            yield Problem(f"{where}.rope_interleaved", "true", expected, "change one")
        return
    width = section.rotating_width(hidden)
    if section.rope_theta is None:
        yield Problem(
            f"{where}.rope_sections", f"{list(sections)}", f"null, because {where}.rope_theta is null", "change one"
        )
    elif sum(sections) * 2 != width:
        yield Problem(
            f"{where}.rope_sections",
            f"{list(sections)}, {sum(sections)} pairs in all",
            f"the {width // 2} pairs of a head of width {width}" + (", rope_width" if section.rope_width else ""),
            "change the list",
        )
    elif section.rope_interleaved and not can_interleave(sections):
        expected = "at most a third of the pairs for height and for width, because they take turns"
        yield Problem(f"{where}.rope_sections", f"{list(sections)}", expected, "change the list")


ATTENTION_RULES = (
    TensorRule("*.attention.q.*", "outputs"),
    TensorRule("*.attention.[kv].*", "groups"),
    TensorRule("*.attention.[qk]_norm.weight", "share"),
    TensorRule("*.attention.o.weight", "inputs"),
    TensorRule("*.attention.o.bias", "rows"),
)

ATTENTION = LayerKind(
    section=AttentionConfig,
    facts=_facts,
    cuts=_cuts,
    problems=lambda where, section, hidden: (
        problem for check in (head_problems, rope_problems) for problem in check(where, section, hidden)
    ),
    axes=lambda section: None if section.rope_theta is None else section.position_axes,
    layer="counterpoint.layers.attention.model:layer",
    rules=ATTENTION_RULES,
    resolved=lambda section, hidden: {
        "kv_heads": section.num_kv_heads,
        "head_dim": section.head_width(hidden),
        "rope_width": section.rotating_width(hidden),
    },
)
