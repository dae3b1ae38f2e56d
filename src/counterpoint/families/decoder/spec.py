"""Section and facts of causal decoders, without torch (Llama, Qwen2, Qwen3 with mixtures of experts, Nemotron-H)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.family import DOCUMENTS, Ends, Family, ModelSection
from counterpoint.kinds.keeps import norm_keeps
from counterpoint.kinds.layer import LayerSection
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.layers import LAYERS, LayerConfig
from counterpoint.layers.attention.spec import AttentionKeys, head_problems, rope_problems
from counterpoint.layers.mamba.spec import MambaConfig
from counterpoint.layers.mlp.spec import DecoderActivation
from counterpoint.layers.moe.spec import MoeConfig
from counterpoint.plan.cost import added
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.tensors import below, joined, linear, norm, products
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.of_kind import KIND
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Count, Matching, Positive, Section, Several

_SHORTHAND = {"*": "attention", "-": "mlp", "M": "mamba", "E": "moe"}
"""Letters of layers whose keys belong to the decoder's section."""

_NEEDED = {"-": "ffn", "M": "mamba", "E": "moe"}
"""The key that each of these layers requires."""

_BIASES = {"attention": "attention_bias", "mlp": "mlp_bias"}
"""Keys of a decoder that say of one kind of layer what `bias` says of all."""

_SECTIONS = {"mamba": "mamba", "moe": "moe"}
"""Layer kinds with a subsection in the decoder, and the key of that."""

_LETTERS = "a letter of *, -, M and E for each of 10,000 layers or fewer"

LayerPattern = Annotated[str, Matching(r"[!-~]{1,10000}", _LETTERS)]


class MtpConfig(Section):
    """Multi-token prediction (DeepSeek-AI, 2024, arXiv:2412.19437): training predicts further tokens after the next
    one."""

    depths: Several = 1
    """Further tokens that are predicted. Unit: tokens."""
    pattern: LayerPattern
    """Layers of each depth, in the letters of the decoder's `pattern` and with its sizes."""
    weight: Positive = 0.1
    """Factor of the mean loss of all depths in the training loss. No unit."""


class DecoderConfig(AttentionKeys, ModelSection):
    """A causal decoder: an embedding, residual layers by a pattern of letters, a norm and a head."""

    kind: Literal["decoder"]
    pattern: LayerPattern
    """One letter per residual layer: `*` attention, `-` MLP, `M` Mamba-2, `E` mixture of experts, or a letter of
    `layers`."""
    hidden: Count
    """Width of the rows. Unit: columns."""
    ffn: Count | None = None
    """Inner width of the MLP layers (letter `-`); tp must divide it. Unit: columns."""
    vocab: Count | Literal["tokenizer"]
    """Size of the vocabulary, or `tokenizer` for that of `data.tokenizer`. Unit: tokens."""
    tied: bool = True
    """Whether embedding and head share one matrix."""
    embedding_scale: Positive = 1.0
    """Factor on the embeddings before the first layer. No unit."""
    activation: DecoderActivation = "swiglu"
    """Activation of the MLPs; `swiglu` and `geglu_tanh` are gated and have a third matrix."""
    bias: bool = False
    """Whether all linear layers of attention and MLPs have biases; `qkv_bias` applies to queries, keys and values
    only."""
    attention_bias: bool | None = None
    """Whether all linear layers of attention have biases; null: as `bias` says."""
    mlp_bias: bool | None = None
    """Whether all linear layers of MLPs have biases; null: as `bias` says."""
    norm_eps: Positive = 1e-5
    """Added to the mean square inside norms. No unit."""
    post_norm: bool = False
    """Whether the output of each sublayer is normed, too, before it is added to the rows (Ding et al., 2021,
    arXiv:2105.13290)."""
    mamba: MambaConfig | None = None
    """The Mamba-2 layers (letter `M`)."""
    moe: MoeConfig | None = None
    """The mixtures of experts (letter `E`)."""
    mtp: MtpConfig | None = None
    """Multi-token prediction; null: only the next token is predicted."""
    layers: dict[Annotated[str, Matching(r"[A-Z]", "a capital letter")], LayerConfig] = Field(default_factory=dict)
    """Sections of further layers, by their capital letter in `pattern`; keys that a section leaves out have the
    decoder's values."""

    @property
    def num_layers(self) -> int:
        return len(self.pattern)

    @property
    def layer_kinds(self) -> frozenset[str]:
        """The letters of all layers, including those of multi-token prediction."""
        return frozenset(self.pattern) | frozenset("" if self.mtp is None else self.mtp.pattern)

    @property
    def words(self) -> int | Literal["tokenizer"]:
        return self.vocab

    @property
    def second_reader(self) -> tuple[str, str] | None:
        if self.tied:
            return "tied embeddings", "untie them with tied: false"
        return None if self.mtp is None else ("multi-token prediction", "leave model.mtp out")

    @property
    def entering(self) -> int | None:
        return self.hidden

    @property
    def mtp_depths(self) -> int:
        """Number of tokens that are predicted after the next one."""
        return 0 if self.mtp is None else self.mtp.depths

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_width(self.hidden)

    def bias_of(self, kind: str) -> bool:
        """Whether all linear layers of a kind of layer have biases."""
        own: bool | None = getattr(self, _BIASES[kind]) if kind in _BIASES else None
        return self.bias if own is None else own

    @property
    def layer_sections(self) -> dict[str, LayerSection]:
        """The section of each letter; letters whose keys belong to the decoder come first."""
        own = {letter: _own_section(self, kind) for letter, kind in _SHORTHAND.items() if self._has_keys(letter)}
        return {**own, **{letter: section for letter, section in self.layers.items() if letter in self.layer_kinds}}

    def _has_keys(self, letter: str) -> bool:
        return letter in self.layer_kinds and (letter not in _NEEDED or getattr(self, _NEEDED[letter]) is not None)

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        """Copy keys of the decoder into the sections in `layers` that leave them out."""
        layers = data.get("layers") if isinstance(data, Mapping) else None
        if not isinstance(layers, Mapping):
            return data
        return {**data, "layers": {letter: _with_keys_of(data, layer) for letter, layer in layers.items()}}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """In the schema, sections in `layers` need not have keys that they inherit from the decoder."""
        made = super().__get_pydantic_json_schema__(schema, handler)
        layers = handler.resolve_ref_schema(made)["properties"]["layers"]["additionalProperties"]
        handed_down = cls.model_fields.keys() - {KIND}
        for choice in layers["allOf"]:
            layer = handler.resolve_ref_schema(choice["then"])
            layer["required"] = [key for key in layer["required"] if key not in handed_down]
            for key in handed_down & layer["properties"].keys():
                layer["properties"][key].pop("default", None)
        return made


def _with_keys_of(decoder: Mapping[str, Any], layer: Any) -> Any:
    if not isinstance(layer, Mapping) or layer.get("kind") not in LAYERS:
        return layer
    keys = LAYERS[layer["kind"]].section.model_fields.keys() & DecoderConfig.model_fields.keys()
    handed = {key: decoder[key] for key in sorted(keys & decoder.keys() - {"kind"})}
    own = decoder.get(_BIASES.get(layer["kind"], ""))
    if own is not None:
        handed["bias"] = own
    return {**handed, **layer}


def _own_section(decoder: DecoderConfig, kind: str) -> LayerSection:
    """The section of a layer whose keys belong to the decoder."""
    section = LAYERS[kind].section
    values = {key: getattr(decoder, key) for key in section.model_fields.keys() & DecoderConfig.model_fields.keys()}
    if "bias" in values:
        values["bias"] = decoder.bias_of(kind)
    if kind in _SECTIONS:
        below = getattr(decoder, _SECTIONS[kind])
        values |= {key: getattr(below, key) for key in type(below).model_fields}
    layer: LayerSection = section.model_validate(values | {"kind": kind})
    return layer


def _facts(section: DecoderConfig, ends: Ends) -> ModelFacts:
    """A tied head has no parameters."""
    hidden = section.hidden
    return ModelFacts(
        parts=(
            _embedding(ends.vocab, hidden),
            *_labelled(section, tuple(_layers(section, ends))),
            PartFacts(
                name="norm",
                tensors=norm("", hidden, "rms"),
                kept=norm_keeps("rms", hidden).eager,
                hidden_out=hidden,
                labelled=section.mtp is None,
            ),
            *_further(section),
            _head(section, ends),
        ),
        hidden=hidden,
        hidden_in=hidden,
        hidden_out=hidden,
        row_multiple=1,
        residual_sums=len(section.pattern),
        vocab=ends.vocab,
        is_tied=section.tied,
        extra_depths=section.mtp_depths,
        position_axes=section.position_axes,
    )


def _embedding(vocab: int, hidden: int) -> PartFacts:
    """Lookup of words; backward needs their places, and which of them are no words."""
    places = Keeps.alike(Kept(1, "int64", "gathered"), Kept(1, "byte", "gathered"))
    return PartFacts(name="embed", tensors=(("weight", (vocab, hidden)),), kept=places, hidden_out=hidden)


def _layer(name: str, letter: str, section: DecoderConfig) -> PartFacts:
    layer = section.layer_sections[letter]
    return replace(LAYERS[layer.kind].facts(name, layer, section.hidden), kinds=(letter,))


def _layers(section: DecoderConfig, ends: Ends) -> Iterator[PartFacts]:
    for number, letter in enumerate(section.pattern):
        yield _layer(f"layers.{number}", letter, section)
        if number in ends.inserts:
            # A sum keeps nothing for backward.
            yield PartFacts(name=f"inserts.{number}", hidden_out=section.hidden)


def _labelled(section: DecoderConfig, layers: tuple[PartFacts, ...]) -> Iterator[PartFacts]:
    """The same layers; those after the last one that mixes rows, if the head follows, see only rows with a label."""
    by_row = {letter for letter, layer in section.layer_sections.items() if LAYERS[layer.kind].by_row}
    mixing = [number for number, layer in enumerate(layers) if not by_row.issuperset(layer.kinds or ("",))]
    first = len(layers) if section.mtp is not None else max(mixing, default=-1) + 1
    for number, layer in enumerate(layers):
        yield replace(layer, labelled=number >= first)


def _further(section: DecoderConfig) -> Iterator[PartFacts]:
    """The copy of the embedding for multi-token prediction, without parameters like a tied head, and the depths."""
    if section.mtp is None:
        return
    yield PartFacts(name="words", hidden_out=section.hidden)
    layers = tuple(_layer(f"layers.{n}", letter, section) for n, letter in enumerate(section.mtp.pattern))
    for number in range(section.mtp.depths):
        yield _depth(number, section.hidden, layers)


def _depth(number: int, hidden: int, layers: tuple[PartFacts, ...]) -> PartFacts:
    """A depth of multi-token prediction with its layers; the head scores its rows."""
    join = linear("join", 2 * hidden, hidden, bias=False)
    # Both inputs are normed and lie side by side; the rows of all depths lie side by side for the head.
    joined_keeps = (norm_keeps("rms", 3 * hidden) + Keeps.alike(Kept(2 * hidden))).eager
    norms = tuple((f"{name}.weight", (hidden,)) for name in ("rows_norm", "words_norm", "norm"))
    return PartFacts(
        name=f"mtp.{number}",
        kinds=tuple(sorted({kind for layer in layers for kind in layer.kinds})),
        tensors=(*norms, *join, *joined(below(layer.name, layer.tensors) for layer in layers)),
        flops_per_row=products(join) + sum(layer.flops_per_row for layer in layers),
        flops_per_pair=added(layer.flops_per_pair for layer in layers),
        kept=sum((layer.kept for layer in layers), joined_keeps),
        working=max((layer.working for layer in layers), key=len, default=()),
        groups=max((layer.groups for layer in layers), default=0),
        hidden_out=hidden * (number + 2),
        active_expert_parameters=sum(layer.active_expert_parameters for layer in layers),
        mixtures=tuple((f"{layer.name}.{name}", experts) for layer in layers for name, experts in layer.mixtures),
        mixers=tuple(mixer for layer in layers for mixer in layer.mixers),
    )


def _head(section: DecoderConfig, ends: Ends) -> PartFacts:
    """Logits and loss for every predicted token; a tied head has no parameters."""
    scored = 1 + section.mtp_depths
    return PartFacts(
        name="head",
        tensors=() if section.tied else (("weight", (ends.vocab, section.hidden)),),
        flops_per_row=2 * ends.vocab * section.hidden * scored,
        # The loss makes both gradients in forward, piece by piece, and keeps them.
        kept=Keeps.alike(Kept(section.hidden * scored, cut="gathered")),
        kept_matrix=ends.vocab * section.hidden * scored,
        scores=ends.vocab,
        labelled=True,
        hidden_out=section.hidden,
    )


def _cuts(section: DecoderConfig) -> Cuts:
    found = []
    for letter, layer in section.layer_sections.items():
        cuts, key = LAYERS[layer.kind].cuts(layer), _key_of(letter)
        found.append(cuts.below(key) if key else cuts)
    return Cuts.of_all(found)


def _key_of(letter: str) -> str:
    """The config path of the section of a letter, empty if its keys belong to the decoder."""
    return _SECTIONS.get(_SHORTHAND[letter], "") if letter in _SHORTHAND else f"layers.{letter}"


def _problems(where: str, section: DecoderConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    model = f"{where}.model"
    yield from head_problems(model, section, section.hidden, rotates="*" in section.layer_kinds)
    yield from _letter_problems(model, section)
    for letter in sorted(section.layer_kinds & {"M", "E"} | section.layer_kinds - _SHORTHAND.keys(), key=_letter_order):
        layer = section.layer_sections.get(letter)
        if layer is not None:
            yield from LAYERS[layer.kind].problems(f"{model}.{_key_of(letter)}", layer, section.hidden)
            yield from _axes_problems(model, letter, section)
    yield from rope_problems(model, section, section.hidden)


def _axes_problems(where: str, letter: str, section: DecoderConfig) -> Iterator[Problem]:
    layer = section.layer_sections[letter]
    axes = LAYERS[layer.kind].axes(layer)
    if axes not in (None, section.position_axes):
        expected = f"{section.position_axes}, as {where}.rope_sections says"
        yield Problem(f"{where}.{_key_of(letter)}", f"positions with {axes} coordinates", expected, "change one")


def _letter_order(letter: str) -> tuple[bool, int, str]:
    own = list(_SHORTHAND)
    return letter not in own, own.index(letter) if letter in own else 0, letter


def _letter_problems(where: str, section: DecoderConfig) -> Iterator[Problem]:
    """Problems of letters without a section, and of sections without a letter."""
    patterns = {"pattern": section.pattern, "mtp.pattern": "" if section.mtp is None else section.mtp.pattern}
    unknown = [key for key, pattern in patterns.items() if set(pattern) - _SHORTHAND.keys() - section.layers.keys()]
    for key in unknown:
        expected = _LETTERS if not section.layers else f"{_LETTERS}, or one of {', '.join(section.layers)}"
        yield Problem(f"{where}.{key}", show(patterns[key]), expected, "correct the value")
    if unknown:
        return
    for letter, key in _NEEDED.items():
        is_given = getattr(section, key) is not None
        if letter in section.layer_kinds and not is_given:
            pattern = "pattern" if letter in section.pattern else "mtp.pattern"
            yield Problem(
                f"{where}.{key}", "nothing", f"it, because {where}.{pattern} has the letter {letter}", "add it"
            )
        elif letter not in section.layer_kinds and is_given:
            expected = f"null, because {where}.pattern has no letter {letter}"
            yield Problem(f"{where}.{key}", "a value", expected, "leave it out")
    for letter in section.layers:
        if letter in _SHORTHAND:
            expected = f"another letter, because {letter} stands for a layer of its own"
            yield Problem(f"{where}.layers.{letter}", show(letter), expected, "rename it")
        elif letter not in section.layer_kinds:
            expected = f"a letter of {where}.pattern"
            yield Problem(f"{where}.layers.{letter}", show(letter), expected, "use it or leave it out")


def _rules(section: DecoderConfig) -> tuple[TensorRule, ...]:
    own = ("embed.weight", "head.weight", "words.weight")
    layers = [rule for layer in section.layer_sections.values() for rule in LAYERS[layer.kind].rules]
    return (*(TensorRule(name, "words") for name in own), *layers, TensorRule("mtp.*.join.weight", "rows"))


def _initial(section: DecoderConfig) -> tuple[Initial, ...]:
    return tuple(rule for layer in section.layer_sections.values() for rule in LAYERS[layer.kind].initial)


def _resolved(section: DecoderConfig) -> dict[str, Any]:
    layers = {letter: _meaning(layer, section.hidden) for letter, layer in section.layers.items()}
    return {
        "kv_heads": section.num_kv_heads,
        "head_dim": section.head_size,
        "rope_width": section.rotating_width(section.hidden),
        # The keys of attention and of MLPs say it.
        "bias": None,
        **{key: section.bias_of(kind) for kind, key in _BIASES.items()},
        "layers": layers,
    }


def _meaning(layer: LayerSection, hidden: int) -> dict[str, Any]:
    """The values of a layer section's keys that determine its tensors."""
    kind = LAYERS[layer.kind]
    keys = layer.model_dump() | dict(kind.resolved(layer, hidden))
    return {key: value for key, value in keys.items() if key not in kind.steers}


def _idle(section: DecoderConfig) -> frozenset[str]:
    """Keys of layers that do not occur in the pattern."""
    kinds = {section.layer_sections[letter].kind for letter in set(section.pattern)}
    keys = {
        "attention": {*AttentionKeys.model_fields, "attention_bias"}, "mlp": {"ffn", "mlp_bias"}, "mamba": {"mamba"},
        "moe": {"moe"},
    }  # fmt: skip
    return frozenset(key for kind, own in keys.items() if kind not in kinds for key in own)


DECODER = Family(
    section=DecoderConfig,
    called="a decoder",
    reads=DOCUMENTS,
    facts=_facts,
    cuts=_cuts,
    problems=_problems,
    rules=_rules,
    initial=_initial,
    resolved=_resolved,
    idle=_idle,
    steers=("moe.balance", "mamba.chunk", "mtp.weight"),
    switches=("moe.bias_rate",),
    apart=("mtp",),
    parts="counterpoint.families.decoder.model:parts",
)
