"""The vision towers of Qwen2.5-VL and Qwen3-VL, each with the projector that merges its patches."""

from collections.abc import Iterator

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link, Reshaped, Same
from counterpoint.convert.tables import BOTH, Table, renamed
from counterpoint.convert.vision import activation_of, fused_qkv, heads_of, side_of
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.projectors.mlp.spec import MlpProjectorConfig

_GATED_LAYER: Table = {
    "attention_norm.weight": "norm1.weight",
    **{f"attention.o.{x}": f"attn.proj.{x}" for x in BOTH},
    "mlp_norm.weight": "norm2.weight",
    **{f"mlp.{m}.{x}": f"mlp.{m}_proj.{x}" for m in ("gate", "up", "down") for x in BOTH},
}
_LAYER: Table = {
    **{f"attention_norm.{x}": f"norm1.{x}" for x in BOTH},
    **{f"attention.o.{x}": f"attn.proj.{x}" for x in BOTH},
    **{f"mlp_norm.{x}": f"norm2.{x}" for x in BOTH},
    **{f"mlp.up.{x}": f"mlp.linear_fc1.{x}" for x in BOTH},
    **{f"mlp.down.{x}": f"mlp.linear_fc2.{x}" for x in BOTH},
}
_MLP: Table = {
    f"mlp.{ours}.{x}": f"{theirs}.{x}" for ours, theirs in (("up", "mlp.0"), ("down", "mlp.2")) for x in BOTH
}
_MERGER: Table = {
    f"mlp.{ours}.{x}": f"{theirs}.{x}" for ours, theirs in (("up", "linear_fc1"), ("down", "linear_fc2")) for x in BOTH
}
_NORM: Table = {f"norm.{x}": f"norm.{x}" for x in BOTH}


def qwen2_5_model(fields: Fields) -> Model:
    """What the `vision_config` of a Qwen2.5-VL describes; raises CheckpointError."""
    fields.demand("hidden_act", "silu")
    hidden, merge, patch = fields.integer("hidden_size"), _merge(fields), fields.integer("patch_size")
    section = described(
        VitConfig,
        fields,
        layers=fields.integer("depth"),
        hidden=hidden,
        heads=_heads(fields, hidden),
        ffn=fields.integer("intermediate_size"),
        norm="rms",
        activation="swiglu",
        projector=_projector(fields, hidden, merge),
        patch=patch,
        channels=fields.integer("in_channels"),
        frames=fields.integer("temporal_patch_size"),
        merge=merge,
        patch_bias=False,
        positions=0,
        rotary_theta=_theta(fields),
        # The window is rounded down to whole merge groups.
        window=fields.integer("window_size") // merge // patch * merge or None,
        full_layers=fields.integers("fullatt_block_indexes"),
    )
    return Model(section, Ends(leaving=fields.integer("out_hidden_size")))


def qwen3_model(fields: Fields) -> Model:
    """What the `vision_config` of a Qwen3-VL describes; raises CheckpointError."""
    hidden, merge, depth = fields.integer("hidden_size"), _merge(fields), fields.integer("depth")
    taps = deepstack_of(fields)
    if len(set(taps)) < len(taps) or not all(0 <= layer < depth for layer in taps):
        raise fields.unlike("deepstack_visual_indexes", list(taps), f"layers below {depth}, each once,")
    section = described(
        VitConfig,
        fields,
        layers=depth,
        hidden=hidden,
        heads=_heads(fields, hidden),
        ffn=fields.integer("intermediate_size"),
        activation=activation_of(fields),
        projector=_projector(fields, hidden, merge),
        tap_norm="layer",
        patch=fields.integer("patch_size"),
        channels=fields.integer("in_channels"),
        frames=fields.integer("temporal_patch_size"),
        merge=merge,
        positions=side_of(fields, "num_position_embeddings"),
        fit="corners",
        rotary_theta=_theta(fields),
    )
    # Whatever the order of the list, features join in the order of the layers that they come from.
    return Model(section, Ends(leaving=fields.integer("out_hidden_size"), taps=tuple(sorted(taps))))


def qwen2_5_links(section: VitConfig) -> Iterator[Link]:
    """The links of the tower of a Qwen2.5-VL, from its own root."""
    yield _film(section)
    yield from _layers(section, _GATED_LAYER)
    yield Same(("norm.weight",), ("merger.ln_q.weight",))
    yield from renamed("projector", "merger", _MLP)


def deepstack_of(fields: Fields) -> tuple[int, ...]:
    """The layers whose features join a Qwen3-VL's text, in the order of their projectors; raises CheckpointError."""
    return fields.integers("deepstack_visual_indexes")


def qwen3_links(section: VitConfig, deepstack: tuple[int, ...]) -> Iterator[Link]:
    """The links of the tower of a Qwen3-VL, from its own root, with its projectors of these layers."""
    yield _film(section)
    yield Same(("embed.patch.bias",), ("patch_embed.proj.bias",))
    yield Same(("embed.positions.weight",), ("pos_embed.weight",))
    yield from _layers(section, _LAYER)
    yield from renamed("norm", "merger.norm", {x: x for x in BOTH})
    yield from renamed("projector", "merger", _MERGER)
    for number, layer in enumerate(deepstack):
        yield from renamed(f"taps.{layer}", f"deepstack_merger_list.{number}", _NORM, _MERGER)


def _heads(fields: Fields, hidden: int) -> int:
    """Number of heads, whose pairs rotate by row and by column; raises CheckpointError."""
    heads = heads_of(fields, "num_heads", hidden)
    if hidden // heads % 4:
        raise fields.unlike("num_heads", heads, f"heads of {hidden} whose width is a multiple of 4")
    return heads


def _merge(fields: Fields) -> int:
    return fields.integer("spatial_merge_size")


def _theta(fields: Fields) -> float:
    rope = fields.section("rope_parameters")
    rope.demand("rope_type", "axial", "default")
    places = {place: place.has("rope_theta") for place in (rope, fields)}
    return next((place for place, states in places.items() if states), fields).number("rope_theta")


def _projector(fields: Fields, hidden: int, merge: int) -> MlpProjectorConfig:
    return described(MlpProjectorConfig, fields, hidden=hidden * merge**2, activation="gelu")


def _film(section: VitConfig) -> Link:
    shape = (section.hidden, section.channels, section.frames, section.patch, section.patch)
    ours = (section.hidden, section.patch_dim)
    return Reshaped(("embed.patch.weight",), ("patch_embed.proj.weight",), ours, shape)


def _layers(section: VitConfig, table: Table) -> Iterator[Link]:
    for layer in range(section.layers):
        ours, theirs = f"layers.{layer}", f"blocks.{layer}"
        yield from renamed(ours, theirs, table)
        yield from fused_qkv(f"{ours}.attention", f"{theirs}.attn.qkv", section.hidden)
