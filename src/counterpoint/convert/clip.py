"""CLIP, SigLIP and SigLIP 2: encoders of pictures that share the names of their layers."""

from collections.abc import Iterator
from typing import Any

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import ChannelsLast, ClassRow, Link, Reshaped, Same
from counterpoint.convert.spelling import moved
from counterpoint.convert.tables import Table, renamed
from counterpoint.convert.tower import Tower
from counterpoint.convert.vision import activation_of, heads_of, side_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.projectors.linear.spec import LinearProjectorConfig

PREFIX = "vision_model."
"""Of all names; transformers 5 reads and writes them without it as well."""

_COUNTED = f"{PREFIX}embeddings.position_ids"
"""Numbers from 0 on, which older files hold."""

UNUSED_OF_CLIP = (f"{PREFIX}post_layernorm.*", _COUNTED)
"""The norm of the class token alone, which no patch passes."""

UNUSED_OF_SIGLIP = (f"{PREFIX}head.*", _COUNTED)
"""Attention that makes one vector of a picture."""

UNUSED_OF_PAIRS = ("text_model.*", "*_projection.*", "logit_*")
"""What a tower that was trained with one of text has beside it."""

_LAYER: Table = {
    **{f"attention_norm.{x}": f"layer_norm1.{x}" for x in ("weight", "bias")},
    **{f"attention.{a}.{x}": f"self_attn.{a}_proj.{x}" for a in "qkv" for x in ("weight", "bias")},
    **{f"attention.o.{x}": f"self_attn.out_proj.{x}" for x in ("weight", "bias")},
    **{f"mlp_norm.{x}": f"layer_norm2.{x}" for x in ("weight", "bias")},
    **{f"mlp.up.{x}": f"mlp.fc1.{x}" for x in ("weight", "bias")},
    **{f"mlp.down.{x}": f"mlp.fc2.{x}" for x in ("weight", "bias")},
}


SPELLING = moved(("embeddings.", "encoder.", "pre_layrnorm.", "post_layernorm.", "head."), PREFIX, "")


def clip_section(fields: Fields) -> VitConfig:
    """What a `clip_vision_model` describes, up to its last layer; raises CheckpointError."""
    positions = fields.integer("image_size") // fields.integer("patch_size")
    return _common(fields, final_norm=False, patch_bias=False, positions=positions, prefix=1, embed_norm=True)


def siglip_section(fields: Fields) -> VitConfig:
    """What a `siglip_vision_model` describes, up to its last norm; raises CheckpointError."""
    return _siglip(fields, fields.integer("image_size") // fields.integer("patch_size"), is_second=False)


def siglip2_section(fields: Fields) -> VitConfig:
    """What a `siglip2_vision_model` describes, up to its last norm; raises CheckpointError."""
    return _siglip(fields, side_of(fields, "num_patches"), is_second=True)


def clip_links(section: VitConfig) -> Iterator[Link]:
    """The links of a CLIP, without a projector."""
    yield _picture(section)
    yield ClassRow(
        ("embed.prefix.weight", "embed.positions.weight"),
        (f"{PREFIX}embeddings.class_embedding", f"{PREFIX}embeddings.position_embedding.weight"),
    )
    # So spelled in all of its checkpoints.
    yield from renamed("embed.norm", f"{PREFIX}pre_layrnorm", {"weight": "weight", "bias": "bias"})
    yield from _layers(section)


def siglip_links(section: VitConfig) -> Iterator[Link]:
    """The links of a SigLIP, without a projector."""
    yield _picture(section)
    yield from _siglip_links(section)


def siglip2_links(section: VitConfig) -> Iterator[Link]:
    """The links of a SigLIP 2, whose patches hold the channels of a pixel next to each other, without a projector."""
    yield ChannelsLast(("embed.patch.weight",), (f"{PREFIX}embeddings.patch_embedding.weight",), section.channels)
    yield from _siglip_links(section)


def _siglip(fields: Fields, positions: int, *, is_second: bool) -> VitConfig:
    return _common(fields, positions=positions, fit="antialias" if is_second else "stretch")


def _common(fields: Fields, **own: Any) -> VitConfig:
    """A section of a family's own keys, and of those that all three have under the same names."""
    hidden = fields.integer("hidden_size")
    return described(
        VitConfig,
        fields,
        layers=fields.integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads_of(fields, "num_attention_heads", hidden),
        ffn=fields.integer("intermediate_size"),
        norm_eps=fields.number("layer_norm_eps"),
        activation=activation_of(fields),
        projector=LinearProjectorConfig(kind="linear", bias=False),
        patch=fields.integer("patch_size"),
        channels=fields.integer("num_channels"),
        **own,
    )


def _siglip_links(section: VitConfig) -> Iterator[Link]:
    yield Same(("embed.patch.bias",), (f"{PREFIX}embeddings.patch_embedding.bias",))
    yield Same(("embed.positions.weight",), (f"{PREFIX}embeddings.position_embedding.weight",))
    yield from _layers(section)
    yield from renamed("norm", f"{PREFIX}post_layernorm", {"weight": "weight", "bias": "bias"})


def _picture(section: VitConfig) -> Link:
    shape = (section.hidden, section.channels, section.patch, section.patch)
    theirs = f"{PREFIX}embeddings.patch_embedding.weight"
    return Reshaped(("embed.patch.weight",), (theirs,), (section.hidden, section.patch_dim), shape)


def _layers(section: VitConfig) -> Iterator[Link]:
    for layer in range(section.layers):
        yield from renamed(f"layers.{layer}", f"{PREFIX}encoder.layers.{layer}", _LAYER)


_POOLED = frozenset({"projection_dim", "vision_use_head"})

CLIP = Tower(
    section=clip_section,
    links=clip_links,
    without_effect=_POOLED | {"vocab_size"},
    unused=UNUSED_OF_CLIP,
    spelling=SPELLING,
)
SIGLIP = Tower(
    section=siglip_section,
    links=siglip_links,
    without_effect=_POOLED,
    unused=UNUSED_OF_SIGLIP,
    spelling=SPELLING,
)
SIGLIP2 = Tower(
    section=siglip2_section,
    links=siglip2_links,
    without_effect=_POOLED,
    unused=UNUSED_OF_SIGLIP,
    spelling=SPELLING,
)
