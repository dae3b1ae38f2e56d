"""Parakeet's encoder of sound, a FastConformer."""

from collections.abc import Iterator

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Joined, Link
from counterpoint.convert.tables import BOTH, Table, renamed
from counterpoint.convert.tower import Tower
from counterpoint.convert.vision import heads_of
from counterpoint.families.conformer.spec import ConformerConfig
from counterpoint.projectors.linear.spec import LinearProjectorConfig

UNUSED = ("layers.*.conv.norm.num_batches_tracked",)
"""How many batches the statistics are of."""

_STEM: Table = {
    f"{ours}.{x}": f"{theirs}.{x}" for ours, theirs in (("linear", "linear"), ("first", "layers.0")) for x in BOTH
}
_NORMS: Table = {
    f"{ours}_norm.{x}": f"norm_{theirs}.{x}"
    for ours, theirs in (
        ("first", "feed_forward1"), ("attention", "self_att"), ("conv", "conv"), ("second", "feed_forward2"),
    )
    for x in BOTH
}  # fmt: skip
_REST: Table = {
    **{f"norm.{x}": f"norm_out.{x}" for x in BOTH},
    **{f"conv.norm.{x}": f"conv.norm.{x}" for x in BOTH},
    "conv.norm.mean": "conv.norm.running_mean",
    "conv.norm.variance": "conv.norm.running_var",
    "attention.r.weight": "self_attn.relative_k_proj.weight",
    "attention.content_bias": "self_attn.bias_u",
    "attention.distance_bias": "self_attn.bias_v",
}
_LINEARS = {
    **{f"attention.{x}": f"self_attn.{x}_proj" for x in "qkvo"},
    **{
        f"{ours}_mlp.{our_linear}": f"feed_forward{theirs}.{their_linear}"
        for ours, theirs in (("first", 1), ("second", 2))
        for our_linear, their_linear in (("up", "linear1"), ("down", "linear2"))
    },
}


def parakeet_section(fields: Fields) -> ConformerConfig:
    """What an `audio_config` describes; raises CheckpointError."""
    fields.demand("hidden_act", "silu")
    fields.demand("subsampling_conv_kernel_size", 3)
    fields.demand("subsampling_conv_stride", 2)
    hidden, factor = fields.integer("hidden_size"), fields.integer("subsampling_factor")
    if factor < 2 or factor & (factor - 1):
        raise fields.unlike("subsampling_factor", factor, "a power of two")
    mels = fields.integer("num_mel_bins")
    if mels % factor:
        raise fields.unlike("num_mel_bins", mels, f"a multiple of {factor}, the subsampling_factor")
    return described(
        ConformerConfig,
        fields,
        layers=fields.integer("num_hidden_layers"),
        hidden=hidden,
        heads=heads_of(fields, "num_attention_heads", hidden),
        ffn=fields.integer("intermediate_size"),
        projector=LinearProjectorConfig(kind="linear", bias=False),
        mels=mels,
        positions=fields.integer("max_position_embeddings"),
        stem_channels=fields.integer("subsampling_conv_channels"),
        halvings=factor.bit_length() - 1,
        conv=fields.integer("conv_kernel_size"),
        scale_input=fields.flag("scale_input"),
        bias=fields.flag("attention_bias"),
        conv_bias=fields.flag("convolution_bias"),
    )


def parakeet_links(section: ConformerConfig) -> Iterator[Link]:
    """The links of the encoder, from its own root, without a projector."""
    yield from renamed("embed", "subsampling", _STEM)
    for step in range(section.halvings - 1):
        # Their list counts activations as well: one after the first convolution and one after each pair.
        for kind, place in (("depthwise", 2 + 3 * step), ("pointwise", 3 + 3 * step)):
            names = {f"{kind}.{x}": f"{place}.{x}" for x in BOTH}
            yield from renamed(f"embed.steps.{step}", "subsampling.layers", names)
    linears: Table = {f"{o}.{x}": f"{t}.{x}" for o, t in _LINEARS.items() for x in _kinds(section.bias)}
    for layer in range(section.layers):
        name = f"layers.{layer}"
        yield from renamed(name, name, _NORMS, _REST, linears)
        yield from _convolution(f"{name}.conv", section)


def _convolution(name: str, section: ConformerConfig) -> Iterator[Link]:
    hidden = section.hidden
    for kind in _kinds(section.conv_bias):
        is_matrix = kind == "weight"
        both = (f"{name}.value.{kind}", f"{name}.gate.{kind}")
        yield Joined(both, (f"{name}.pointwise_conv1.{kind}",), (hidden, hidden), pointwise=is_matrix)
        yield Joined((f"{name}.o.{kind}",), (f"{name}.pointwise_conv2.{kind}",), (hidden,), pointwise=is_matrix)
        yield Joined((f"{name}.depthwise.{kind}",), (f"{name}.depthwise_conv.{kind}",), (hidden,), depthwise=is_matrix)


def _kinds(has_bias: bool) -> tuple[str, ...]:
    return BOTH if has_bias else ("weight",)


PARAKEET = Tower(
    section=parakeet_section,
    links=parakeet_links,
    without_effect=frozenset({"num_key_value_heads"}),
    unused=UNUSED,
    spelling={"encoder.": ""},
)  # fmt: skip
