"""Whisper's encoder of sound."""

from collections.abc import Iterator

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import ByTap, Link
from counterpoint.convert.spelling import moved
from counterpoint.convert.tables import BOTH, Table, renamed
from counterpoint.convert.tower import Tower
from counterpoint.convert.vision import activation_of, heads_of
from counterpoint.families.whisper.spec import WhisperConfig
from counterpoint.projectors.linear.spec import LinearProjectorConfig

PREFIX = "encoder."

UNUSED = ("decoder.*", "proj_out.*")
"""What writes text of sound."""

_LAYER: Table = {
    **{f"attention_norm.{x}": f"self_attn_layer_norm.{x}" for x in BOTH},
    **{f"attention.{a}.weight": f"self_attn.{a}_proj.weight" for a in "qkv"},
    **{f"attention.{a}.bias": f"self_attn.{a}_proj.bias" for a in "qv"},
    **{f"attention.o.{x}": f"self_attn.out_proj.{x}" for x in BOTH},
    **{f"mlp_norm.{x}": f"final_layer_norm.{x}" for x in BOTH},
    **{f"mlp.up.{x}": f"fc1.{x}" for x in BOTH},
    **{f"mlp.down.{x}": f"fc2.{x}" for x in BOTH},
}


def whisper_section(fields: Fields) -> WhisperConfig:
    """The encoder that a `whisper` describes, up to its last norm; raises CheckpointError."""
    hidden, layers = fields.integer("d_model"), fields.integer("encoder_layers")
    # In transformers it is another name of the key before, and goes before that.
    if fields.has("num_hidden_layers"):
        fields.demand("num_hidden_layers", layers)
    return described(
        WhisperConfig,
        fields,
        layers=layers,
        hidden=hidden,
        heads=heads_of(fields, "encoder_attention_heads", hidden),
        ffn=fields.integer("encoder_ffn_dim"),
        activation=activation_of(fields, "activation_function"),
        projector=LinearProjectorConfig(kind="linear", bias=False),
        mels=fields.integer("num_mel_bins"),
        positions=fields.integer("max_source_positions"),
    )


def whisper_links(section: WhisperConfig) -> Iterator[Link]:
    """The links of the encoder, without a projector."""
    for conv, inputs in (("conv1", section.mels), ("conv2", section.hidden)):
        yield ByTap((f"embed.{conv}.weight",), (f"{PREFIX}{conv}.weight",), inputs)
        yield from renamed(f"embed.{conv}", f"{PREFIX}{conv}", {"bias": "bias"})
    yield from renamed("embed.times", f"{PREFIX}embed_positions", {"weight": "weight"})
    for layer in range(section.layers):
        yield from renamed(f"layers.{layer}", f"{PREFIX}layers.{layer}", _LAYER)
    yield from renamed("norm", f"{PREFIX}layer_norm", {x: x for x in BOTH})


_SPELLING = {
    "model.": "",
    **moved(("conv1.", "conv2.", "embed_positions.", "layers.", "layer_norm."), PREFIX, ""),
}
"""Of a complete Whisper, of one without a head, and of its encoder alone."""

WHISPER = Tower(
    section=whisper_section,
    links=whisper_links,
    without_effect=frozenset({
        "apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob",
        "mask_feature_length", "mask_feature_min_masks", "vocab_size", "decoder_layers", "decoder_attention_heads",
        "decoder_ffn_dim", "scale_embedding", "max_target_positions", "use_weighted_layer_sum",
        "classifier_proj_size", "median_filter_width", "tie_word_embeddings",
        "alignment_heads", "lang_ids", "task_ids",
    }),
    unused=UNUSED,
    spelling=_SPELLING,
)  # fmt: skip
