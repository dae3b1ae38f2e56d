"""RADIO: an encoder of pictures of any shape, whose positions are cut out of a square."""

from collections.abc import Iterator

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Filled, Link, Reshaped, Same
from counterpoint.convert.radio_args import MLP_RATIO, PATCH, WITHOUT_EFFECT, published_sizes
from counterpoint.convert.spelling import Spelling
from counterpoint.convert.tables import BOTH, Table, renamed
from counterpoint.convert.tower import Tower
from counterpoint.convert.vision import activation_of, fused_qkv, heads_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.projectors.linear.spec import LinearProjectorConfig
from counterpoint.section.section import LARGEST_INTEGER

PREFIX = "radio_model."

UNUSED = (
    f"{PREFIX}summary_idxs",
    f"{PREFIX}input_conditioner.*",
    f"{PREFIX}model.patch_generator.video_embedder.*",
    f"{PREFIX}adaptors.*",
)
"""Which learned rows make a summary, how pixels are normalised, which `processor.py` reads and data does here, the
patches of films, and heads that imitate other models."""

_PATCHES = f"{PREFIX}model.patch_generator."
SPELLING: Spelling = {
    "model.": f"{PREFIX}model.",
    "encoder.layer.": f"{PREFIX}model.blocks.",
    "embeddings.patch_projection.": f"{_PATCHES}embedder.",
    "embeddings.video_patch_projection.": f"{_PATCHES}video_embedder.",
    "embeddings.position_embedding": f"{_PATCHES}pos_embed",
    "embeddings.cls_register_token": f"{_PATCHES}cls_token.token",
    "input_conditioner.": f"{PREFIX}input_conditioner.",
    "summary_idxs": f"{PREFIX}summary_idxs",
}

_LAYER: Table = {
    **{f"attention_norm.{x}": f"norm1.{x}" for x in BOTH},
    **{f"attention.o.{x}": f"attn.proj.{x}" for x in BOTH},
    "attention_scale.weight": "layer_scale1.lambda1",
    **{f"mlp_norm.{x}": f"norm2.{x}" for x in BOTH},
    **{f"mlp.up.{x}": f"mlp.fc1.{x}" for x in BOTH},
    **{f"mlp.down.{x}": f"mlp.fc2.{x}" for x in BOTH},
    "mlp_scale.weight": "layer_scale2.lambda1",
}


def radio_section(fields: Fields) -> VitConfig:
    """What a `radio` describes, up to its last layer; raises CheckpointError."""
    if fields.has("args"):
        return _published(fields)
    fields.demand("use_swiglu_ffn", False)
    fields.demand("qkv_bias", True)
    hidden, patch, ratio = fields.integer("hidden_size"), fields.integer("patch_size"), fields.number("mlp_ratio")
    if not 1 <= hidden * ratio <= LARGEST_INTEGER:
        raise fields.unlike("mlp_ratio", ratio, f"a ratio to hidden_size, {hidden}, of a width from 1")
    return _tower(
        fields,
        layers=fields.integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads_of(fields, "num_attention_heads", hidden),
        ffn=int(hidden * ratio),
        patch=patch,
        channels=fields.integer("num_channels"),
        positions=fields.integer("max_img_size") // patch,
        prefix=fields.integer("num_cls_tokens") + fields.integer("num_registers", least=0),
    )


def _published(fields: Fields) -> VitConfig:
    """What a config.json of NVIDIA's own program describes, whose activation and epsilon are those of its towers."""
    found = published_sizes(fields)
    hidden, layers, heads = found.sizes
    return _tower(
        fields,
        layers=layers,
        hidden=hidden,
        heads=heads,
        ffn=MLP_RATIO * hidden,
        patch=PATCH,
        channels=found.channels,
        positions=found.positions,
        prefix=found.prefix,
    )


def _tower(fields: Fields, **sizes: int) -> VitConfig:
    """A tower of these sizes, with what all RADIOs have in common."""
    return described(
        VitConfig,
        fields,
        norm_eps=fields.number("layer_norm_eps"),
        activation=activation_of(fields),
        layer_scale=True,
        final_norm=False,
        projector=LinearProjectorConfig(kind="linear", bias=False),
        patch_bias=False,
        fit="crop",
        **sizes,
    )


def radio_links(section: VitConfig) -> Iterator[Link]:
    """The links of a RADIO, without a projector."""
    patches, entries = f"{PREFIX}model.patch_generator", section.positions**2
    yield Same(("embed.patch.weight",), (f"{patches}.embedder.weight",))
    yield Same(("embed.prefix.weight",), (f"{patches}.cls_token.token",))
    yield Reshaped(
        ("embed.positions.weight",), (f"{patches}.pos_embed",), (entries, section.hidden), (1, entries, section.hidden)
    )
    for layer in range(section.layers):
        ours, theirs = f"layers.{layer}", f"{PREFIX}model.blocks.{layer}"
        yield from renamed(ours, theirs, _LAYER)
        yield from fused_qkv(f"{ours}.attention", f"{theirs}.attn.qkv", section.hidden)


def radio_otherwise(section: VitConfig, fields: Fields) -> Iterator[Link]:
    """The links of tensors that are not fused, and the value of factors that may be missing, as in all C-RADIO."""
    value = fields.number("layerscale_value")
    for layer in range(section.layers):
        ours, theirs = f"layers.{layer}", f"{PREFIX}model.blocks.{layer}"
        names = {f"attention.{x}.{kind}": f"attention.{x}_proj.{kind}" for x in "qkvo" for kind in BOTH}
        yield from renamed(ours, theirs, names)
        for scale in ("attention_scale", "mlp_scale"):
            yield Filled((f"{ours}.{scale}.weight",), (section.hidden,), value)


RADIO = Tower(
    section=radio_section,
    links=radio_links,
    without_effect=WITHOUT_EFFECT | {
        "image_size", "norm_mean", "norm_std", "summary_idxs", "patch_dim", "video_patch_dim",
        "video_temporal_patch_size",
    },
    unused=UNUSED,
    spelling=SPELLING,
    otherwise=radio_otherwise,
)  # fmt: skip
