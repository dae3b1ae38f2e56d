"""What a model's sizes say about it before it is built: parts, parameters, work, memory and row widths."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from counterpoint.plan import part_facts
from counterpoint.plan.cost import Cost, pairs
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.sizes import (
    AdapterSizes,
    ConformerSizes,
    CustomSizes,
    DecoderSizes,
    FeaturesSizes,
    ModelSizes,
    TowerSizes,
    VitSizes,
    WhisperSizes,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """A whole model: its parts in order, and what crosses its ends.

    Inside rows have `hidden` columns. `row_multiple` input rows must stay together; `residual_sums` sublayers are added
    to the rows. Before the input rows of each item the module computes `prefix` rows of its own. A head that `is_tied`
    is the embedding. Beside the next token `extra_depths` more are predicted; positions have `position_axes`
    coordinates; documents are made of `vocab` words.
    """

    parts: tuple[PartFacts, ...]
    hidden: int
    hidden_in: int
    hidden_out: int
    row_multiple: int
    causal: bool
    residual_sums: int
    prefix: int = 0
    vocab: int = 0
    is_tied: bool = False
    extra_depths: int = 0
    position_axes: int = 1

    @property
    def reads_words_last(self) -> bool:
        """Whether the last stage reads the embedding, of which it has a copy unless it is the first as well."""
        return self.is_tied or self.extra_depths > 0

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
        return pairs(rows, causal=self.causal)

    def forward_flops(self, rows: int) -> int:
        """Forward FLOPs of one document, or image, of `rows` input rows."""
        return self.cost.of(rows)

    @property
    def cost(self) -> Cost:
        """What balancing compares of documents, or items: their forward FLOPs."""
        windowed = [part for part in self.parts if part.window]
        return Cost(
            per_row=sum(part.flops_per_row for part in self.parts)
            + sum(part.flops_per_pair * part.window for part in windowed),
            per_pair=sum(part.flops_per_pair for part in self.parts if not part.window),
            causal=self.causal,
            prefix=self.prefix,
        )


def facts_of(sizes: ModelSizes) -> ModelFacts:
    """The facts of the model that has these sizes."""
    match sizes:
        case DecoderSizes():
            return decoder_facts(sizes)
        case VitSizes():
            return vit_facts(sizes)
        case CustomSizes():
            return custom_facts(sizes)
        case FeaturesSizes():
            return features_facts(sizes)
        case AdapterSizes():
            return adapter_facts(sizes)
        case WhisperSizes():
            return whisper_facts(sizes)
        case ConformerSizes():
            return conformer_facts(sizes)


def decoder_facts(sizes: DecoderSizes) -> ModelFacts:
    """Facts of a decoder; a tied head counts no parameters of its own."""
    return ModelFacts(
        parts=(
            part_facts.word_embedding(sizes),
            *_decoder_layers(sizes),
            part_facts.final_norm(sizes.hidden, "rms"),
            *_further(sizes),
            part_facts.head(sizes),
        ),
        hidden=sizes.hidden,
        hidden_in=sizes.hidden,
        hidden_out=sizes.hidden,
        row_multiple=1,
        causal=True,
        residual_sums=len(sizes.pattern),
        vocab=sizes.vocab,
        is_tied=sizes.tied,
        extra_depths=sizes.mtp_depths,
        position_axes=sizes.position_axes,
    )


def vit_facts(sizes: VitSizes) -> ModelFacts:
    """Facts of a vision transformer with its projector; its input rows are flattened patches."""
    windows = {layer: sizes.window**2 for layer in range(sizes.layers) if sizes.is_windowed(layer)}
    facts = _encoder_facts(sizes, sizes.merge**2, part_facts.patch_embedding(sizes), sizes.patch_dim, windows)
    return replace(facts, prefix=sizes.prefix)


def custom_facts(sizes: CustomSizes) -> ModelFacts:
    """Facts of a registered encoder with its projector; its input rows are flattened patches."""
    group = sizes.merge**2
    return ModelFacts(
        parts=(part_facts.custom_tower(sizes), part_facts.projector(sizes, group)),
        hidden=sizes.hidden,
        hidden_in=sizes.patch_dim,
        hidden_out=sizes.out,
        row_multiple=group,
        causal=False,
        residual_sums=1,
    )


def features_facts(sizes: FeaturesSizes) -> ModelFacts:
    """Facts of precomputed features with their projector."""
    return ModelFacts(
        parts=(part_facts.given_rows(sizes), part_facts.projector(sizes, 1)),
        hidden=sizes.width,
        hidden_in=sizes.width,
        hidden_out=sizes.out,
        row_multiple=1,
        causal=False,
        residual_sums=1,
    )


def adapter_facts(sizes: AdapterSizes) -> ModelFacts:
    """Facts of an adapter with its projector; its input rows are features of other encoders."""
    return _encoder_facts(sizes, 1, part_facts.feature_embedding(sizes), sizes.inputs, {})


def whisper_facts(sizes: WhisperSizes) -> ModelFacts:
    """Facts of an encoder of clips with its projector; its input rows are windows of frames."""
    return _encoder_facts(sizes, sizes.stack, part_facts.stem(sizes), sizes.window * sizes.mels, {})


def conformer_facts(sizes: ConformerSizes) -> ModelFacts:
    """Facts of a conformer with its projector; its input rows are windows of frames."""

    def layer(number: int) -> PartFacts:
        return part_facts.conformer_layer(f"layers.{number}", sizes)

    return ModelFacts(
        parts=(
            part_facts.subsampling(sizes),
            *_encoder_layers(sizes, sizes.stack, layer),
            part_facts.projector(sizes, sizes.stack),
        ),
        hidden=sizes.hidden,
        hidden_in=sizes.window * sizes.mels,
        hidden_out=sizes.out,
        row_multiple=sizes.stack,
        causal=False,
        residual_sums=4 * sizes.layers,
    )


def _encoder_facts(
    sizes: TowerSizes, group: int, embedding: PartFacts, hidden_in: int, windows: Mapping[int, int]
) -> ModelFacts:
    """Facts of an encoder of which `group` rows become one; layers in `windows` see so many rows."""

    def layer(number: int) -> PartFacts:
        return part_facts.encoder_layer(f"layers.{number}", sizes, windows.get(number, 0))

    norm = (part_facts.final_norm(sizes.hidden, sizes.norm),) if sizes.final_norm else ()
    return ModelFacts(
        parts=(embedding, *_encoder_layers(sizes, group, layer), *norm, part_facts.projector(sizes, group)),
        hidden=sizes.hidden,
        hidden_in=hidden_in,
        hidden_out=sizes.out,
        row_multiple=group,
        causal=False,
        residual_sums=2 * sizes.layers,
    )


def _encoder_layers(sizes: TowerSizes, group: int, facts: Callable[[int], PartFacts]) -> Iterator[PartFacts]:
    for layer in range(sizes.layers):
        yield facts(layer)
        if layer in sizes.taps:
            yield part_facts.projector(sizes, group, f"taps.{layer}")


_LAYER_FACTS = {
    "*": part_facts.decoder_attention,
    "-": part_facts.decoder_mlp,
    "M": part_facts.decoder_mamba,
    "E": part_facts.decoder_moe,
}


def _further(sizes: DecoderSizes) -> Iterator[PartFacts]:
    if sizes.mtp is None:
        return
    yield part_facts.words_copy(sizes)
    layers = tuple(_LAYER_FACTS[kind](f"layers.{layer}", sizes) for layer, kind in enumerate(sizes.mtp.pattern))
    for number in range(sizes.mtp.depths):
        yield part_facts.mtp_depth(number, sizes, layers)


def _decoder_layers(sizes: DecoderSizes) -> Iterator[PartFacts]:
    for layer, kind in enumerate(sizes.pattern):
        yield _LAYER_FACTS[kind](f"layers.{layer}", sizes)
        if layer in sizes.inserts:
            yield part_facts.insertion(layer, sizes.hidden)
