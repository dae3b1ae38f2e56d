"""What a model's sizes say about it before it is built: parts, parameters, work, memory and row widths."""

from dataclasses import dataclass

from counterpoint.plan.sizes import DecoderSizes, ModelSizes, VitSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """One part, per row of the module's input.

    `flops_per_row` and `flops_per_pair` count the forward pass, a multiplication and an addition as two; a
    pair is a query and a key that it sees. `activation_elements` estimates what forward keeps for backward.
    The part hands on `hidden_out` values for every `rows_per_output` of the module's input rows. Of `parameters`,
    `expert_parameters` are the routed experts', of which a row meets `active_expert_parameters`.
    """

    name: str
    parameters: int
    flops_per_row: int
    flops_per_pair: int
    activation_elements: int
    hidden_out: int
    rows_per_output: int = 1
    expert_parameters: int = 0
    active_expert_parameters: int = 0

    def cost(self, rows: int, pairs: int) -> int:
        """Forward FLOPs on `rows` rows with `pairs` query-key pairs."""
        return self.flops_per_row * rows + self.flops_per_pair * pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A whole model: its parts in order, and what crosses its ends.

    `row_multiple` input rows must stay together; `residual_sums` sublayers are added to the rows.
    """

    parts: tuple[PartFacts, ...]
    hidden_in: int
    hidden_out: int
    row_multiple: int
    causal: bool
    residual_sums: int

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return sum(part.parameters for part in self.parts)

    @property
    def active_parameters(self) -> int:
        """Parameters that one row meets: all but the experts that it does not choose."""
        return sum(part.parameters - part.expert_parameters + part.active_expert_parameters for part in self.parts)

    def pairs(self, rows: int) -> int:
        """Query-key pairs in a document of `rows` rows."""
        return rows * (rows + 1) // 2 if self.causal else rows * rows

    def forward_flops(self, rows: int) -> int:
        """Forward FLOPs of one document, or image, of `rows` input rows."""
        return sum(part.cost(rows, self.pairs(rows)) for part in self.parts)

    def integer_cost(self, rows: int) -> int:
        """What balancing compares of one document, or image, of `rows` input rows: its forward FLOPs."""
        return self.forward_flops(rows)


def facts_of(sizes: ModelSizes) -> ModelFacts:
    """The facts of the model that has these sizes."""
    return decoder_facts(sizes) if isinstance(sizes, DecoderSizes) else vit_facts(sizes)


def decoder_facts(sizes: DecoderSizes) -> ModelFacts:
    """Facts of a decoder; a tied head counts no parameters of its own."""
    words = sizes.vocab * sizes.hidden
    makers = {"*": _decoder_attention, "-": _decoder_mlp, "M": _decoder_mamba, "E": _decoder_moe}
    layers = tuple(makers[kind](f"layers.{i}", sizes) for i, kind in enumerate(sizes.pattern))
    head = PartFacts(
        name="head",
        parameters=0 if sizes.tied else words,
        flops_per_row=2 * words,
        flops_per_pair=0,
        activation_elements=sizes.hidden + 2 * sizes.vocab,
        hidden_out=sizes.hidden,
    )
    return ModelFacts(
        parts=(
            _light_part("embed", words, sizes.hidden),
            *layers,
            _light_part("norm", sizes.hidden, sizes.hidden),
            head,
        ),
        hidden_in=sizes.hidden,
        hidden_out=sizes.hidden,
        row_multiple=1,
        causal=True,
        residual_sums=len(sizes.pattern),
    )


def vit_facts(sizes: VitSizes) -> ModelFacts:
    """Facts of a vision transformer with its projector; its input rows are flattened patches."""
    embedding = sizes.patch_dim * sizes.hidden + sizes.hidden + sizes.positions**2 * sizes.hidden
    embed = PartFacts(
        name="embed",
        parameters=embedding,
        flops_per_row=2 * sizes.patch_dim * sizes.hidden,
        flops_per_pair=0,
        activation_elements=sizes.patch_dim + 6 * sizes.hidden,
        hidden_out=sizes.hidden,
    )
    return ModelFacts(
        parts=(
            embed,
            *(_encoder_layer(f"layers.{i}", sizes) for i in range(sizes.layers)),
            _light_part("norm", 2 * sizes.hidden, sizes.hidden),
            _projector(sizes),
        ),
        hidden_in=sizes.patch_dim,
        hidden_out=sizes.out,
        row_multiple=sizes.merge**2,
        causal=False,
        residual_sums=2 * sizes.layers,
    )


def _light_part(name: str, parameters: int, hidden: int) -> PartFacts:
    """A part whose work is negligible: a lookup or a norm."""
    return PartFacts(
        name=name,
        parameters=parameters,
        flops_per_row=0,
        flops_per_pair=0,
        activation_elements=hidden,
        hidden_out=hidden,
    )


def _decoder_attention(name: str, sizes: DecoderSizes) -> PartFacts:
    hidden, queries, keys = sizes.hidden, sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    weights = hidden * queries + 2 * hidden * keys + queries * hidden
    biases = (queries + 2 * keys if sizes.bias or sizes.qkv_bias else 0) + (hidden if sizes.bias else 0)
    norms = hidden + (2 * sizes.head_dim if sizes.qk_norm else 0)
    return PartFacts(
        name=name,
        parameters=weights + biases + norms,
        flops_per_row=2 * weights,
        flops_per_pair=4 * queries,
        activation_elements=2 * hidden + 3 * queries + 3 * keys,
        hidden_out=hidden,
    )


def _decoder_mlp(name: str, sizes: DecoderSizes) -> PartFacts:
    inner = 2 if sizes.activation == "swiglu" else 1
    weights = (inner + 1) * sizes.hidden * sizes.ffn
    biases = inner * sizes.ffn + sizes.hidden if sizes.bias else 0
    return PartFacts(
        name=name,
        parameters=weights + biases + sizes.hidden,
        flops_per_row=2 * weights,
        flops_per_pair=0,
        activation_elements=2 * sizes.hidden + 2 * inner * sizes.ffn,
        hidden_out=sizes.hidden,
    )


def _decoder_mamba(name: str, sizes: DecoderSizes) -> PartFacts:
    mamba = sizes.mamba
    assert mamba is not None, "a pattern with M comes with the sizes of Mamba-2"
    shared = 2 * mamba.groups * mamba.state
    convolved = mamba.inner + shared
    projected = mamba.inner + convolved + mamba.heads
    weights = sizes.hidden * (projected + mamba.inner)
    # Scores and mixing within a chunk, then into its state and out of the one before.
    scan = 2 * mamba.chunk * (mamba.groups * mamba.state + mamba.inner) + 4 * mamba.inner * mamba.state
    return PartFacts(
        name=name,
        parameters=weights + convolved * (mamba.conv + 1) + 3 * mamba.heads + mamba.inner + sizes.hidden,
        flops_per_row=2 * weights + 2 * convolved * mamba.conv + scan,
        flops_per_pair=0,
        activation_elements=2 * sizes.hidden + 2 * projected + 3 * mamba.inner + 2 * mamba.chunk * mamba.heads,
        hidden_out=sizes.hidden,
    )


def _decoder_moe(name: str, sizes: DecoderSizes) -> PartFacts:
    moe = sizes.moe
    assert moe is not None, "a pattern with E comes with the sizes of the experts"
    matrices = 3 if sizes.activation == "swiglu" else 2
    expert, shared, router = (
        matrices * sizes.hidden * moe.ffn,
        matrices * sizes.hidden * moe.shared_ffn,
        sizes.hidden * moe.experts,
    )
    return PartFacts(
        name=name,
        parameters=moe.experts * expert + shared + router + sizes.hidden,
        flops_per_row=2 * (moe.top_k * expert + shared + router),
        flops_per_pair=0,
        activation_elements=2 * sizes.hidden
        + 2 * moe.experts
        + moe.top_k * (2 * sizes.hidden + matrices * moe.ffn)
        + matrices * moe.shared_ffn,
        hidden_out=sizes.hidden,
        expert_parameters=moe.experts * expert,
        active_expert_parameters=moe.top_k * expert,
    )


def _encoder_layer(name: str, sizes: VitSizes) -> PartFacts:
    hidden, ffn = sizes.hidden, sizes.ffn
    weights = 4 * hidden * hidden + 2 * hidden * ffn
    biases_and_norms = 5 * hidden + ffn + 4 * hidden
    return PartFacts(
        name=name,
        parameters=weights + biases_and_norms,
        flops_per_row=2 * weights,
        flops_per_pair=4 * hidden,
        activation_elements=9 * hidden + 2 * ffn,
        hidden_out=hidden,
    )


def _projector(sizes: VitSizes) -> PartFacts:
    if sizes.projector == "linear":
        weights, biases, kept = sizes.merged * sizes.out, sizes.out, sizes.merged
    else:
        weights = (sizes.merged + sizes.out) * sizes.projector_hidden
        biases = sizes.projector_hidden + sizes.out
        kept = sizes.merged + 2 * sizes.projector_hidden
    group = sizes.merge**2
    return PartFacts(
        name="projector",
        parameters=weights + biases + (2 * sizes.merged if sizes.projector_norm else 0),
        flops_per_row=-(-2 * weights // group),
        flops_per_pair=0,
        activation_elements=-(-kept // group),
        hidden_out=sizes.out,
        rows_per_output=group,
    )
