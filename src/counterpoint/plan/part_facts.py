"""What the sizes of a model say about each of its parts: tensors, work and memory, per row of the module's input."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from counterpoint.plan.sizes import (
    AdapterSizes,
    ConformerSizes,
    CustomSizes,
    DecoderSizes,
    FeaturesSizes,
    NormKind,
    ProjectorSizes,
    TowerSizes,
    VitSizes,
    WhisperSizes,
)

Tensors = tuple[tuple[str, int], ...]
"""Parameters by their names inside a part, with their numbers of elements."""

EXPERTS = "moe.experts."
"""What the names of routed experts begin with inside their layer."""

_TAPS = 9
"""Places under the filter of a strided convolution: 3 x 3."""

ENCODER_LAYER = "L"
"""The kind of an encoder's layers; a decoder's have the letters of its pattern."""

VECTORS_OF_DYNAMICS = ("a_log", "dt_bias", "d")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """One part, per row of the module's input.

    `tensors` are its parameters. `flops_per_row` and `flops_per_pair` count the forward pass, a multiplication and an
    addition as two; a pair is a query and a key that it sees. Attention in windows sees `window` rows, 0 for the whole
    item. `activation_elements` estimates what forward keeps for backward. The part hands on `hidden_out` values for
    every `rows_per_output` of the module's input rows. Of the routed experts' parameters a row meets
    `active_expert_parameters`; `mixtures` are the names inside the part of what routes rows, with numbers of experts.
    The layers that it is made of are of these `kinds`, by their letters.
    """

    name: str
    kinds: tuple[str, ...] = ()
    tensors: Tensors = ()
    flops_per_row: int = 0
    flops_per_pair: int = 0
    window: int = 0
    activation_elements: int
    hidden_out: int
    rows_per_output: int = 1
    active_expert_parameters: int = 0
    mixtures: tuple[tuple[str, int], ...] = ()

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(elements for _name, elements in self.tensors)

    @property
    def expert_parameters(self) -> int:
        """Elements of the routed experts' tensors."""
        return sum(elements for name, elements in self.tensors if EXPERTS in name)

    def cost(self, rows: int, pairs: int) -> int:
        """Forward FLOPs on `rows` rows with `pairs` query-key pairs."""
        seen = rows * self.window if self.window else pairs
        return self.flops_per_row * rows + self.flops_per_pair * seen


def patch_embedding(sizes: VitSizes) -> PartFacts:
    """Patches to rows, with learned positions and the learned rows in front of each image."""
    patch = _linear("patch", sizes.patch_dim, sizes.hidden, bias=sizes.patch_bias)
    entries = {"positions": sizes.positions**2, "prefix": sizes.prefix}
    tables = tuple((f"{name}.weight", count * sizes.hidden) for name, count in entries.items() if count)
    norm = _norm("norm", sizes.hidden, sizes.norm) if sizes.embed_norm else ()
    read = _products(tables[:1]) if sizes.fit == "antialias" else 0
    return PartFacts(
        name="embed",
        tensors=(*patch, *tables, *norm),
        flops_per_row=_products(patch) + read,
        activation_elements=sizes.patch_dim + 6 * sizes.hidden,
        hidden_out=sizes.hidden,
    )


def stem(sizes: WhisperSizes) -> PartFacts:
    """Frames to rows by two convolutions; the first is computed for every row by itself, under the second's filter."""
    taps = 3
    first = _linear("conv1", taps * sizes.mels, sizes.hidden, bias=True)
    second = _linear("conv2", taps * sizes.hidden, sizes.hidden, bias=True)
    return PartFacts(
        name="embed",
        tensors=(*first, *second, ("times.weight", sizes.positions * sizes.hidden)),
        flops_per_row=taps * _products(first) + _products(second),
        activation_elements=taps**2 * sizes.mels + 2 * (taps + 1) * sizes.hidden,
        hidden_out=sizes.hidden,
    )


def custom_tower(sizes: CustomSizes) -> PartFacts:
    """A registered module as a whole, by estimate: each of its matrices multiplies every row once, and layers of
    attention see all rows of an image."""
    matrices = [shape for _name, shape in sizes.parameters if len(shape) > 1]
    return PartFacts(
        name="embed",
        kinds=(ENCODER_LAYER,),
        tensors=tuple((f"tower.{name}", prod(shape)) for name, shape in sizes.parameters),
        flops_per_row=2 * sum(prod(shape) for shape in matrices),
        flops_per_pair=4 * sizes.hidden * sizes.layers,
        activation_elements=sizes.patch_dim + sum(shape[0] for shape in matrices) + 5 * sizes.hidden * sizes.layers,
        hidden_out=sizes.hidden,
    )


def given_rows(sizes: FeaturesSizes) -> PartFacts:
    """Features that were computed beforehand."""
    return _light("embed", (), sizes.width)


def feature_embedding(sizes: AdapterSizes) -> PartFacts:
    """Features of other encoders to rows."""
    linear = _linear("linear", sizes.inputs, sizes.hidden, bias=True)
    return PartFacts(
        name="embed",
        tensors=linear,
        flops_per_row=_products(linear),
        activation_elements=sizes.inputs + sizes.hidden,
        hidden_out=sizes.hidden,
    )


def subsampling(sizes: ConformerSizes) -> PartFacts:
    """Windows of frames to rows by strided convolutions, each over half as many times and mels as the one before."""
    channels = sizes.stem_channels
    filters: list[Tensors] = [_linear("first", _TAPS, channels, bias=True)]
    for step in range(sizes.halvings - 1):
        depthwise = _linear(f"steps.{step}.depthwise", _TAPS, channels, bias=True)
        filters.append((*depthwise, *_linear(f"steps.{step}.pointwise", channels, channels, bias=True)))
    flops, kept = 0, sizes.window * sizes.mels
    for halving, tensors in enumerate(filters, start=1):
        places = (2 * sizes.stride // 2**halving - 1) * (sizes.mels // 2**halving)
        flops += places * _products(tensors)
        kept += places * channels * (2 if halving == 1 else 3)
    linear = _linear("linear", channels * sizes.stem_mels, sizes.hidden, bias=True)
    return PartFacts(
        name="embed",
        tensors=(*_joined(filters), *linear),
        flops_per_row=flops + _products(linear),
        activation_elements=kept + sizes.hidden,
        hidden_out=sizes.hidden,
    )


def word_embedding(sizes: DecoderSizes) -> PartFacts:
    """A table of words."""
    return _light("embed", (("weight", sizes.vocab * sizes.hidden),), sizes.hidden)


def final_norm(hidden: int, kind: NormKind) -> PartFacts:
    """The norm behind the last layer."""
    return _light("norm", _norm("", hidden, kind), hidden)


def _light(name: str, tensors: Tensors, hidden: int) -> PartFacts:
    """A part whose work is negligible: a lookup or a norm."""
    return PartFacts(name=name, tensors=tensors, activation_elements=hidden, hidden_out=hidden)


def insertion(layer: int, hidden: int) -> PartFacts:
    """Where features of another depth join the rows behind a layer: a sum, which keeps nothing."""
    return PartFacts(name=f"inserts.{layer}", activation_elements=0, hidden_out=hidden)


def encoder_layer(name: str, sizes: TowerSizes, window: int = 0) -> PartFacts:
    """Attention and MLP of an encoder, with their norms and scales; each row sees `window` rows, 0 for its item's."""
    hidden, ffn = sizes.hidden, sizes.ffn
    biases = {"q": sizes.qkv_bias, "k": sizes.qkv_bias and sizes.key_bias, "v": sizes.qkv_bias, "o": True}
    attention = _joined(_linear(f"attention.{piece}", hidden, hidden, bias) for piece, bias in biases.items())
    is_gated = sizes.activation == "swiglu"
    gate = _linear("mlp.gate", hidden, ffn, bias=True) if is_gated else ()
    linears = (*attention, *gate, *_mlp("mlp", hidden, ffn, hidden, bias=True))
    norms = (*_norm("attention_norm", hidden, sizes.norm), *_norm("mlp_norm", hidden, sizes.norm))
    scales = tuple((f"{piece}_scale.weight", hidden) for piece in ("attention", "mlp") if sizes.layer_scale)
    return PartFacts(
        name=name,
        kinds=(ENCODER_LAYER,),
        tensors=(*norms, *linears, *scales),
        flops_per_row=_products(linears),
        flops_per_pair=4 * hidden,
        window=window,
        activation_elements=9 * hidden + (4 if is_gated else 2) * ffn,
        hidden_out=hidden,
    )


def conformer_layer(name: str, sizes: ConformerSizes) -> PartFacts:
    """Two MLPs, relative attention and a convolution, with their norms and one more behind them."""
    hidden, ffn = sizes.hidden, sizes.ffn
    attention = _joined(_linear(f"attention.{piece}", hidden, hidden, sizes.bias) for piece in "qkvo")
    distances = _linear("attention.r", hidden, hidden, bias=False)
    biases = (("attention.content_bias", hidden), ("attention.distance_bias", hidden))
    conv = _joined(_linear(f"conv.{piece}", hidden, hidden, sizes.conv_bias) for piece in ("value", "gate", "o"))
    depthwise = _linear("conv.depthwise", sizes.conv, hidden, sizes.conv_bias)
    mlps = _joined(
        (*_linear(f"{which}.up", hidden, ffn, sizes.bias), *_linear(f"{which}.down", ffn, hidden, sizes.bias))
        for which in ("first_mlp", "second_mlp")
    )
    places = ("first_norm", "attention_norm", "conv_norm", "conv.norm", "second_norm", "norm")
    norms = _joined(_norm(place, hidden, "layer") for place in places)
    linears = (*attention, *conv, *depthwise, *mlps)
    return PartFacts(
        name=name,
        kinds=(ENCODER_LAYER,),
        tensors=(*norms, *linears, *distances, *biases),
        # Of each row the distances to either side are projected, and each query meets twice as many as keys.
        flops_per_row=_products(linears) + 2 * _products(distances),
        flops_per_pair=8 * hidden,
        activation_elements=22 * hidden + 4 * ffn,
        hidden_out=hidden,
    )


def projector(sizes: TowerSizes | CustomSizes | FeaturesSizes, group: int, name: str = "projector") -> PartFacts:
    """Rows, `group` of them merged, in the width of what reads them; a tap hands its rows on as they came."""
    is_tap = name != "projector"
    inputs, change = sizes.hidden * group, sizes.projector
    linears, kept = _projection(change, inputs, sizes.out)
    kind = sizes.tap_norm if is_tap and isinstance(sizes, TowerSizes) else change.norm
    norm = _norm("norm", inputs, kind)
    return PartFacts(
        name=name,
        tensors=(*norm, *linears),
        flops_per_row=-(-_products(linears) // group),
        activation_elements=-(-kept // group),
        hidden_out=sizes.hidden if is_tap else sizes.out,
        rows_per_output=1 if is_tap else group,
    )


def _projection(sizes: ProjectorSizes, inputs: int, outputs: int) -> tuple[Tensors, int]:
    """The linears of a projector, and the elements that it keeps of a row."""
    if sizes.kind == "linear":
        return _linear("linear", inputs, outputs, sizes.bias), inputs
    return _mlp("mlp", inputs, sizes.hidden, outputs, sizes.bias), inputs + 2 * sizes.hidden


def decoder_attention(name: str, sizes: DecoderSizes) -> PartFacts:
    """Grouped-query attention with its norm."""
    hidden, queries, keys = sizes.hidden, sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    qkv_bias = sizes.bias or sizes.qkv_bias
    linears = (
        *_linear("attention.q", hidden, queries, qkv_bias),
        *_linear("attention.k", hidden, keys, qkv_bias),
        *_linear("attention.v", hidden, keys, qkv_bias),
        *_linear("attention.o", queries, hidden, sizes.bias),
    )
    head_norms = tuple((f"attention.{piece}_norm.weight", sizes.head_dim) for piece in "qk" if sizes.qk_norm)
    return PartFacts(
        name=name,
        kinds=("*",),
        tensors=(("norm.weight", hidden), *linears, *head_norms),
        flops_per_row=_products(linears),
        flops_per_pair=4 * queries,
        activation_elements=2 * hidden + 3 * queries + 3 * keys,
        hidden_out=hidden,
    )


def decoder_mlp(name: str, sizes: DecoderSizes) -> PartFacts:
    """An MLP with its norm."""
    linears = _gated("mlp", sizes, sizes.ffn, bias=sizes.bias)
    inner = 2 if sizes.activation == "swiglu" else 1
    return PartFacts(
        name=name,
        kinds=("-",),
        tensors=(("norm.weight", sizes.hidden), *linears),
        flops_per_row=_products(linears),
        activation_elements=2 * sizes.hidden + 2 * inner * sizes.ffn,
        hidden_out=sizes.hidden,
    )


def decoder_mamba(name: str, sizes: DecoderSizes) -> PartFacts:
    """A Mamba-2 layer with its norm."""
    mamba = sizes.mamba
    assert mamba is not None, "a pattern with M comes with the sizes of Mamba-2"
    convolved = {"x": mamba.inner, "b": mamba.groups * mamba.state, "c": mamba.groups * mamba.state}
    projected = {"z": mamba.inner, **convolved, "dt": mamba.heads}
    linears = (
        *_joined(_linear(f"mamba.{key}", sizes.hidden, width, bias=False) for key, width in projected.items()),
        *_linear("mamba.o", mamba.inner, sizes.hidden, bias=False),
    )
    filters = _joined(_linear(f"mamba.{key}_conv", mamba.conv, width, bias=True) for key, width in convolved.items())
    dynamics = tuple((f"mamba.dynamics.{key}", mamba.heads) for key in VECTORS_OF_DYNAMICS)
    # Scores and mixing within a chunk, then into its state and out of the one before.
    scan = 2 * mamba.chunk * (mamba.groups * mamba.state + mamba.inner) + 4 * mamba.inner * mamba.state
    kept = 2 * sum(projected.values()) + 3 * mamba.inner + 2 * mamba.chunk * mamba.heads
    return PartFacts(
        name=name,
        kinds=("M",),
        tensors=(("norm.weight", sizes.hidden), *linears, *filters, *dynamics, ("mamba.norm.weight", mamba.inner)),
        flops_per_row=_products(linears) + _products(filters) + scan,
        activation_elements=2 * sizes.hidden + kept,
        hidden_out=sizes.hidden,
    )


def decoder_moe(name: str, sizes: DecoderSizes) -> PartFacts:
    """A mixture of experts with its norm."""
    moe, hidden = sizes.moe, sizes.hidden
    assert moe is not None, "a pattern with E comes with the sizes of the experts"
    matrices = ("gate", "up", "down") if sizes.activation == "swiglu" else ("up", "down")
    stack = hidden * moe.ffn * moe.experts
    shared = _gated("moe.shared", sizes, moe.shared_ffn, bias=False) if moe.shared_ffn else ()
    router = (("moe.router.weight", hidden * moe.experts),)
    met = moe.top_k * len(matrices) * hidden * moe.ffn
    return PartFacts(
        name=name,
        kinds=("E",),
        tensors=(("norm.weight", hidden), *router, *((EXPERTS + key, stack) for key in matrices), *shared),
        flops_per_row=2 * met + _products(shared) + _products(router),
        activation_elements=2 * hidden
        + 2 * moe.experts
        + moe.top_k * (2 * hidden + len(matrices) * moe.ffn)
        + len(matrices) * moe.shared_ffn,
        hidden_out=hidden,
        active_expert_parameters=met,
        mixtures=(("moe", moe.experts),),
    )


def words_copy(sizes: DecoderSizes) -> PartFacts:
    """The embedding's words for multi-token prediction; like a tied head, it has no tensor of its own."""
    return PartFacts(name="words", activation_elements=0, hidden_out=sizes.hidden)


def mtp_depth(number: int, sizes: DecoderSizes, layers: tuple[PartFacts, ...]) -> PartFacts:
    """A depth of multi-token prediction with its layers; the head scores its rows."""
    hidden = sizes.hidden
    join = _linear("join", 2 * hidden, hidden, bias=False)
    norms = tuple((f"{name}.weight", hidden) for name in ("rows_norm", "words_norm", "norm"))
    inner = _joined(tuple((f"{layer.name}.{name}", count) for name, count in layer.tensors) for layer in layers)
    return PartFacts(
        name=f"mtp.{number}",
        kinds=tuple(sorted({kind for layer in layers for kind in layer.kinds})),
        tensors=(*norms, *join, *inner),
        flops_per_row=_products(join) + sum(layer.flops_per_row for layer in layers),
        flops_per_pair=sum(layer.flops_per_pair for layer in layers),
        activation_elements=6 * hidden + sum(layer.activation_elements for layer in layers),
        hidden_out=hidden * (number + 2),
        active_expert_parameters=sum(layer.active_expert_parameters for layer in layers),
        mixtures=tuple((f"{layer.name}.{name}", experts) for layer in layers for name, experts in layer.mixtures),
    )


def head(sizes: DecoderSizes) -> PartFacts:
    """Scores of words and their loss, for every token that is predicted; a tied head has no tensor of its own."""
    words, scored = sizes.vocab * sizes.hidden, 1 + sizes.mtp_depths
    return PartFacts(
        name="head",
        tensors=() if sizes.tied else (("weight", words),),
        flops_per_row=2 * words * scored,
        activation_elements=(sizes.hidden + 2 * sizes.vocab) * scored,
        hidden_out=sizes.hidden,
    )


def _gated(name: str, sizes: DecoderSizes, ffn: int, *, bias: bool) -> Tensors:
    """The linears of a decoder's MLP, with a gate under SwiGLU."""
    gate = _linear(f"{name}.gate", sizes.hidden, ffn, bias) if sizes.activation == "swiglu" else ()
    up, down = _linear(f"{name}.up", sizes.hidden, ffn, bias), _linear(f"{name}.down", ffn, sizes.hidden, bias)
    return (*gate, *up, *down)


def _mlp(name: str, inputs: int, ffn: int, outputs: int, bias: bool) -> Tensors:
    return (*_linear(f"{name}.up", inputs, ffn, bias), *_linear(f"{name}.down", ffn, outputs, bias))


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> Tensors:
    return ((f"{name}.weight", inputs * outputs), *(((f"{name}.bias", outputs),) if bias else ()))


def _norm(name: str, width: int, kind: NormKind) -> Tensors:
    """The parameters of a norm inside a part, or of one that is a part, which has no name there."""
    pieces = {"layer": ("weight", "bias"), "rms": ("weight",), "none": ()}[kind]
    return tuple((f"{name}.{piece}" if name else piece, width) for piece in pieces)


def _products(linears: Tensors) -> int:
    """FLOPs on one row of the products with the weights among some tensors."""
    return 2 * sum(elements for name, elements in linears if name.endswith(".weight"))


def _joined(groups: Iterable[Tensors]) -> Tensors:
    return tuple(tensor for group in groups for tensor in group)
