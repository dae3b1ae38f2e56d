"""Sections and facts that encoders share, without torch: transformer layers within items, and a projector."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.family import Ends, ModelSection
from counterpoint.kinds.keeps import core_keeps, inner_keeps, norm_keeps, read_norm_keeps
from counterpoint.kinds.names import GATED, NormKind
from counterpoint.kinds.projector import ProjectorSection
from counterpoint.kinds.rules import TensorRule
from counterpoint.layers.attention.spec import ATTENTION_RULES
from counterpoint.layers.mlp.spec import MLP_RULES
from counterpoint.plan import tensors
from counterpoint.plan.cost import Mask
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import ENCODER_LAYER, Mixer, PartFacts
from counterpoint.plan.tensors import joined, linear, norm, products
from counterpoint.projectors import PROJECTORS, ProjectorConfig
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Count, Positive, Several


class EncoderSection(ModelSection):
    """The base of encoders, which end in a projector."""

    projector: ProjectorConfig
    """Last part of the encoder, which maps its rows to the width of the module that reads them; `kind` selects it."""

    @property
    def projected(self) -> int:
        """Columns of the projector's input rows."""
        raise NotImplementedError

    @property
    def queries(self) -> int:
        return PROJECTORS[self.projector.kind].queries(self.projector)

    @property
    def last_norm(self) -> tuple[NormKind, ...]:
        """The norms before its projectors."""
        return (self.projector.norm,)


class LayeredSection(EncoderSection):
    """The base of encoders whose layers let each row attend to all rows of its item."""

    layers: Several
    """Number of layers. Unit: layers."""
    hidden: Count
    """Width of the rows, a multiple of `heads`. Unit: columns."""
    heads: Count
    """Attention heads; tp must divide them, and cp those of a tensor-parallel rank. Unit: heads."""
    ffn: Count
    """Inner width of the MLPs; tp must divide it. Unit: columns."""
    norm_eps: Positive = 1e-6
    """Added to the variance or mean square inside norms. No unit."""
    projector: ProjectorConfig
    tap_norm: NormKind = "none"
    """Norm of the projectors of features that are taken after earlier layers (`edges.*.depths`), instead of the norm of
    `projector`."""

    @property
    def projected(self) -> int:
        return self.hidden

    @property
    def last_norm(self) -> tuple[NormKind, ...]:
        return (self.projector.norm, self.tap_norm)

    @property
    def norm_of_taps(self) -> str:
        return self.tap_norm

    @property
    def num_layers(self) -> int:
        return self.layers

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


class TowerSection(LayeredSection):
    """The base of transformer encoders."""

    norm: Literal["layer", "rms"] = "layer"
    """Norms of the layers: `layer` (LayerNorm) or `rms` (RMSNorm)."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu"] = "gelu_tanh"
    """Activation of the MLPs; `swiglu` is gated and has a third matrix."""
    qkv_bias: bool = True
    """Whether the projections of queries, keys and values have biases."""
    key_bias: bool = True
    """Whether the projection of keys has a bias, too, if `qkv_bias` is true."""
    layer_scale: bool = False
    """Whether learned gains multiply the outputs of attention and MLP (LayerScale; Touvron et al., 2021,
    arXiv:2103.17239)."""
    final_norm: bool = True
    """Whether a norm follows the last layer."""


def projector_facts(section: EncoderSection, ends: Ends, group: int) -> PartFacts:
    """The last part: merges `group` rows, and maps them to the width of the target."""
    return _projector(section.projector, section.projected, ends.leaving, group, "projector", ends.leaving)


def _tap(section: LayeredSection, ends: Ends, group: int, layer: int) -> PartFacts:
    """A projector of the rows after layer `layer`; the next layer receives these rows unchanged."""
    projector = section.projector.model_copy(update={"norm": section.tap_norm})
    tap = _projector(projector, section.hidden, ends.leaving, group, f"taps.{layer}", section.hidden)
    return PartFacts(
        name=tap.name,
        tensors=tap.tensors,
        flops_per_row=tap.flops_per_row,
        flops_per_pair=tap.flops_per_pair,
        flops_per_item=tap.flops_per_item,
        kept=tap.kept,
        hidden_out=section.hidden,
    )


def _projector(
    projector: ProjectorSection, width: int, leaving: int, group: int, name: str, hidden_out: int
) -> PartFacts:
    kind, inputs = PROJECTORS[projector.kind], width * group
    facts, queries = kind.facts(projector, inputs, leaving), kind.queries(projector)
    return PartFacts(
        name=name,
        tensors=(*norm("norm", inputs, projector.norm), *facts.tensors),
        flops_per_row=-(-facts.flops_per_row // group),
        flops_per_pair=((Mask(window=queries), -(-facts.flops_per_query // group)),) if queries else (),
        flops_per_item=facts.flops_per_item,
        # No projector is compiled.
        kept=(read_norm_keeps(projector.norm, inputs) + facts.kept).eager.scaled(1 / group),
        hidden_out=hidden_out,
        rows_per_output=group,
    )


def tower_facts(
    section: TowerSection,
    ends: Ends,
    group: int,
    embedding: PartFacts,
    hidden_in: int,
    windows: Mapping[int, int] | None = None,
) -> ModelFacts:
    """Facts of a transformer encoder that merges `group` rows; `windows` limits attention of some layers, in rows."""
    seen = {} if windows is None else windows

    def layer(number: int) -> PartFacts:
        return _tower_layer(f"layers.{number}", section, Mask(window=seen.get(number)))

    last = (_last_norm(section),) if section.final_norm else ()
    return ModelFacts(
        parts=(
            embedding,
            *layer_facts(section, ends, group, layer),
            *last,
            projector_facts(section, ends, group),
        ),
        hidden=section.hidden,
        hidden_in=hidden_in,
        hidden_out=ends.leaving,
        row_multiple=group,
        queries=section.queries,
        residual_sums=2 * section.layers,
    )


def _last_norm(section: TowerSection) -> PartFacts:
    hidden, kind = section.hidden, section.norm
    return PartFacts(
        name="norm", tensors=norm("", hidden, kind), kept=norm_keeps(kind, hidden).eager, hidden_out=hidden
    )


def layer_facts(
    section: LayeredSection, ends: Ends, group: int, facts: Callable[[int], PartFacts]
) -> Iterator[PartFacts]:
    """The parts `layers.N`, each followed by `taps.N` if its output is a port."""
    for layer in range(section.layers):
        yield facts(layer)
        if layer in ends.taps:
            yield _tap(section, ends, group, layer)


def _tower_layer(name: str, section: TowerSection, mask: Mask) -> PartFacts:
    """A layer: attention and MLP, with their norms and scales.

    Backward has nothing else at once: when attention's comes, what the MLP kept is free again.
    """
    hidden, ffn = section.hidden, section.ffn
    biases = {"q": section.qkv_bias, "k": section.qkv_bias and section.key_bias, "v": section.qkv_bias, "o": True}
    attention = joined(linear(f"attention.{piece}", hidden, hidden, bias) for piece, bias in biases.items())
    is_gated = section.activation in GATED
    linears = (*attention, *tensors.mlp("mlp", hidden, ffn, hidden, bias=True, is_gated=is_gated))
    norms = (*norm("attention_norm", hidden, section.norm), *norm("mlp_norm", hidden, section.norm))
    scales = tuple((f"{piece}_scale.weight", (hidden,)) for piece in ("attention", "mlp") if section.layer_scale)
    return PartFacts(
        name=name,
        kinds=(ENCODER_LAYER,),
        tensors=(*norms, *linears, *scales),
        flops_per_row=products(linears),
        flops_per_pair=((mask, 4 * hidden),),
        kept=read_norm_keeps(section.norm, hidden)
        + core_keeps(hidden, hidden, section.heads)
        + read_norm_keeps(section.norm, hidden)
        + inner_keeps(section.activation, ffn)
        + _scales_keep(section),
        mixers=(Mixer(section.heads, section.heads, section.head_size),),
        hidden_out=hidden,
    )


def _scales_keep(section: TowerSection) -> Keeps:
    """The outputs of attention and MLP; a compiler makes one of them again."""
    rows = Kept(section.hidden, cut="rows")
    return Keeps((rows, rows), (rows, rows), (rows,)) if section.layer_scale else KEEPS_NOTHING


def projector_cuts(section: EncoderSection) -> Cuts:
    """The dims of the projector that tensor parallelism must divide."""
    return PROJECTORS[section.projector.kind].cuts(section.projector).below("projector")


def layered_cuts(section: LayeredSection) -> Cuts:
    """The dims of layers and projector that parallelism must divide."""
    heads = {"heads": section.heads}
    return Cuts.of_all((Cuts(tp={**heads, "ffn": section.ffn}, cp=heads), projector_cuts(section)))


def projector_rules(section: EncoderSection) -> tuple[TensorRule, ...]:
    """How the parameters of MLPs and of the projector are sharded."""
    return (*MLP_RULES, *PROJECTORS[section.projector.kind].rules)


def layered_rules(section: EncoderSection) -> tuple[TensorRule, ...]:
    """How the parameters of layers and projector are sharded."""
    return (*ATTENTION_RULES, *projector_rules(section))


def projector_problems(where: str, section: EncoderSection) -> Iterator[Problem]:
    """Keys of the projector of a model at `where` that are inconsistent or have no effect."""
    projector = section.projector
    default = type(projector).model_fields["norm_eps"].default
    if set(section.last_norm) == {"none"} and projector.norm_eps != default:
        expected = f"the default, {default}, because there is no norm"
        yield Problem(
            f"{where}.projector.norm_eps", show(projector.norm_eps), expected, "leave it out or give it a norm"
        )
    yield from PROJECTORS[projector.kind].problems(f"{where}.projector", projector)


def idle_keys(section: EncoderSection) -> frozenset[str]:
    """Keys of the projector that have no effect."""
    return frozenset({"projector.norm_eps"} if set(section.last_norm) == {"none"} else ())


def head_problems(where: str, section: LayeredSection) -> Iterator[Problem]:
    """Problems of heads that do not divide the hidden size of a model at `where`."""
    if section.hidden % section.heads:
        expected = f"a multiple of {where}.heads, {section.heads}"
        yield Problem(f"{where}.hidden", f"{section.hidden}", expected, "change one of them")
