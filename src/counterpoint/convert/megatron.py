"""RADIO as Megatron-LM stores it: no config beside its tensors, so their shapes say what they can."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from counterpoint.convert.composite import VISION, CompositeModel, Stored
from counterpoint.convert.interleaved import Interleaved
from counterpoint.convert.links import Filled, Link, Reshaped, Same
from counterpoint.convert.tables import BOTH, Table, renamed
from counterpoint.errors import CheckpointError
from counterpoint.families.vit.spec import VitConfig
from counterpoint.kinds.family import Ends, Model
from counterpoint.projectors.linear.spec import LinearProjectorConfig

Shapes = Mapping[str, tuple[int, ...]]

CLASS_TOKEN, POSITIONS, PATCH = "class_token", "position_embeddings", "embedder.weight"
FILMS = "video_embedder.weight"
"""The patches of films, which pictures do not use."""
LAYERS = "decoder.layers."
_FINAL_NORM = "decoder.final_layernorm"
_DIMS = {CLASS_TOKEN: 2, POSITIONS: 3, PATCH: 2}
_CHANNELS = 3

_LAYER: Table = {
    **{f"attention.o.{x}": f"self_attention.linear_proj.{x}" for x in BOTH},
    **{f"mlp.up.{x}": f"mlp.linear_fc1.{x}" for x in BOTH},
    **{f"mlp.down.{x}": f"mlp.linear_fc2.{x}" for x in BOTH},
}
_FUSED_NORMS: Table = {
    **{f"attention_norm.{x}": f"self_attention.linear_qkv.layer_norm_{x}" for x in BOTH},
    **{f"mlp_norm.{x}": f"mlp.linear_fc1.layer_norm_{x}" for x in BOTH},
}
"""With Transformer Engine a norm is a part of the linear layer after it."""
_OWN_NORMS: Table = {
    **{f"attention_norm.{x}": f"input_layernorm.{x}" for x in BOTH},
    **{f"mlp_norm.{x}": f"pre_mlp_layernorm.{x}" for x in BOTH},
}


def megatron_radio(owner: str, shapes: Shapes, ours: VitConfig) -> CompositeModel:
    """The encoder whose tensors have these shapes.

    What shapes do not say (heads, activation, the norms' epsilon) is taken from the module `ours`, which loads it.
    Raises CheckpointError for an encoder of another structure.
    """
    section = _section(owner, shapes, ours)
    has_own_norms = any(".input_layernorm." in name or ".pre_mlp_layernorm." in name for name in shapes)
    links = tuple(_links(section, _OWN_NORMS if has_own_norms else _FUSED_NORMS))
    stored = Stored(Model(section, Ends(leaving=section.projected)), links, adds_projector=True)
    return CompositeModel({VISION: stored}, (FILMS,))


UNSAID = ("heads", "activation", "norm_eps")
"""Keys of an encoder that the shapes of its tensors do not say."""


ENCODERS: Mapping[str, Callable[[str, Shapes, Any], CompositeModel]] = {"vit": megatron_radio}
"""By the family of a module, what its checkpoint in Megatron is made out to be."""

ACTIVATION = "gelu_tanh"
"""What Megatron's encoders of this kind compute (`fast_gelu`)."""


def _section(owner: str, shapes: Shapes, ours: VitConfig) -> VitConfig:
    # What is missing is named later: until then it has the size that the module expects.
    hidden = _size(shapes, CLASS_TOKEN, 1, ours.hidden)
    entries = _size(shapes, POSITIONS, 1, ours.positions**2)
    # What makes the module's input of files is absent, as it is of what a config.json describes.
    return VitConfig.model_construct(
        kind="vit",
        layers=_layers(shapes) or ours.layers,
        hidden=hidden,
        heads=ours.heads,
        ffn=_ffn(owner, shapes, ours),
        norm_eps=ours.norm_eps,
        activation=ACTIVATION if ours.activation == "swiglu" else ours.activation,
        layer_scale=ours.layer_scale,
        final_norm=f"{_FINAL_NORM}.weight" in shapes,
        projector=LinearProjectorConfig(kind="linear", bias=False),
        patch=_patch(owner, shapes, ours),
        channels=_CHANNELS,
        patch_bias=False,
        positions=_side(owner, POSITIONS, entries),
        fit="crop",
        prefix=_size(shapes, CLASS_TOKEN, 0, ours.prefix),
    )


def _size(shapes: Shapes, name: str, dim: int, otherwise: int) -> int:
    """A size of a tensor that is there and has as many dimensions as it should, else another value."""
    shape = shapes.get(name, ())
    return shape[dim] if len(shape) == _DIMS[name] else otherwise


def _layers(shapes: Shapes) -> int:
    found = (re.match(re.escape(LAYERS) + r"(\d+)\.", name) for name in shapes)
    return max((1 + int(one[1]) for one in found if one is not None), default=0)


def _ffn(owner: str, shapes: Shapes, ours: VitConfig) -> int:
    rows, columns = (_first(shapes, f".mlp.linear_{fc}.weight", dim) for fc, dim in (("fc1", 0), ("fc2", 1)))
    if rows is not None and columns is not None and rows == 2 * columns:
        raise CheckpointError(
            f"{owner} has mlp.linear_fc1.weight with {rows} rows, twice the columns of mlp.linear_fc2.weight, expected "
            "as many: its MLP is gated, which is no RADIO that is read; choose another"
        )
    return columns or rows or ours.ffn


def _first(shapes: Shapes, ending: str, dim: int) -> int | None:
    return next((shape[dim] for name, shape in shapes.items() if name.endswith(ending) and len(shape) > dim), None)


def _patch(owner: str, shapes: Shapes, ours: VitConfig) -> int:
    columns = _size(shapes, PATCH, 1, _CHANNELS * ours.patch**2)
    frames, rest = divmod(columns, _CHANNELS * ours.patch**2)
    if frames > 1 and not rest:
        raise CheckpointError(
            f"{owner} has {PATCH} with {columns} columns, {frames} times those of a picture's patch, expected "
            f"{columns // frames}: it reads films of {frames} frames; take one that was trained with a separate video "
            "embedder"
        )
    if columns % _CHANNELS:
        expected = f"a multiple of its {_CHANNELS} colours"
        raise CheckpointError(f"{owner} has {PATCH} with {columns} columns, expected {expected}; choose another")
    return _side(owner, PATCH, columns // _CHANNELS)


def _side(owner: str, name: str, entries: int) -> int:
    side = math.isqrt(entries)
    if side**2 != entries:
        raise CheckpointError(f"{owner} has {name} of {entries} entries, expected those of a square; choose another")
    return side


def _links(section: VitConfig, norms: Table) -> Iterator[Link]:
    entries, head = section.positions**2, section.head_size
    yield Same(("embed.patch.weight",), (PATCH,))
    yield Same(("embed.prefix.weight",), (CLASS_TOKEN,))
    yield Reshaped(("embed.positions.weight",), (POSITIONS,), (entries, section.hidden), (1, entries, section.hidden))
    for layer in range(section.layers):
        ours, theirs = f"layers.{layer}", f"{LAYERS}{layer}"
        yield from renamed(ours, theirs, _LAYER, norms)
        for x in BOTH:
            qkv = tuple(f"{ours}.attention.{one}.{x}" for one in "qkv")
            yield Interleaved(qkv, (f"{theirs}.self_attention.linear_qkv.{x}",), (head,) * 3)
        if section.layer_scale:
            # Megatron has no LayerScale, which is to multiply by one.
            for scale in ("attention_scale", "mlp_scale"):
                yield Filled((f"{ours}.{scale}.weight",), (section.hidden,), 1.0)
    if section.final_norm:
        yield from renamed("norm", _FINAL_NORM, {x: x for x in BOTH})
