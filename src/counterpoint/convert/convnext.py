"""ConvNeXt V2: an encoder of pictures whose rows become fewer from stage to stage."""

from collections.abc import Iterator

from counterpoint.convert.described import described
from counterpoint.convert.fields import Fields
from counterpoint.convert.links import Link, Reshaped
from counterpoint.convert.tables import BOTH, Table, renamed
from counterpoint.convert.tower import Tower
from counterpoint.convert.vision import activation_of
from counterpoint.families.convnext.spec import EXPANSION, KERNEL, ConvnextConfig
from counterpoint.projectors.linear.spec import LinearProjectorConfig

_PREFIX = "convnextv2."
"""Of all names but the classifier's, where there is one."""

_STEM: Table = {"patch.bias": "patch_embeddings.bias", **{f"norm.{x}": f"layernorm.{x}" for x in BOTH}}
_HALVING: Table = {**{f"norm.{x}": f"0.{x}" for x in BOTH}, "merge.bias": "1.bias"}
_LAYER: Table = {
    "depthwise.bias": "dwconv.bias",
    **{f"norm.{x}": f"layernorm.{x}" for x in BOTH},
    **{f"mlp.up.{x}": f"pwconv1.{x}" for x in BOTH},
    **{f"mlp.down.{x}": f"pwconv2.{x}" for x in BOTH},
}


def convnext_section(fields: Fields) -> ConvnextConfig:
    """What a `convnextv2` describes, up to its last layer; raises CheckpointError."""
    depths, widths = fields.integers("depths"), fields.integers("hidden_sizes")
    for key, values in (("depths", depths), ("hidden_sizes", widths)):
        if len(values) != fields.integer("num_stages") or min(values) < 1:
            expected = f"{fields.integer('num_stages')} numbers above 0, one for each of num_stages,"
            raise fields.unlike(key, list(values), expected)
    return described(
        ConvnextConfig,
        fields,
        patch=fields.integer("patch_size"),
        channels=fields.integer("num_channels"),
        depths=depths,
        widths=widths,
        activation=activation_of(fields),
        projector=LinearProjectorConfig(kind="linear", bias=False),
    )


def convnext_links(section: ConvnextConfig) -> Iterator[Link]:
    """The links of the encoder, without a projector."""
    first, side = section.widths[0], section.patch
    yield _matrix("embed.patch", "embeddings.patch_embeddings", (first, section.channels, side, side))
    yield from renamed("embed", "embeddings", _STEM)
    for stage in section.stages:
        theirs = f"encoder.stages.{stage.number}"
        if stage.number:
            ours, before = f"halve.{stage.number}", section.widths[stage.number - 1]
            yield _matrix(f"{ours}.merge", f"{theirs}.downsampling_layer.1", (stage.width, before, 2, 2))
            yield from renamed(ours, f"{theirs}.downsampling_layer", _HALVING)
        for place, layer in enumerate(stage.layers):
            yield from _layer(f"layers.{layer}", f"{theirs}.layers.{place}", stage.width)


def _layer(ours: str, theirs: str, width: int) -> Iterator[Link]:
    yield from renamed(ours, theirs, _LAYER)
    filters, inner = (width, KERNEL, KERNEL), EXPANSION * width
    yield Reshaped((f"{ours}.depthwise.weight",), (f"{theirs}.dwconv.weight",), filters, (width, 1, KERNEL, KERNEL))
    for kind in BOTH:
        yield Reshaped((f"{ours}.mlp.response_norm.{kind}",), (f"{theirs}.grn.{kind}",), (inner,), (1, 1, 1, inner))


def _matrix(ours: str, theirs: str, shape: tuple[int, int, int, int]) -> Link:
    """A filter whose stride equals its width is a matrix over all values that it covers."""
    outputs, inputs, height, width = shape
    return Reshaped((f"{ours}.weight",), (f"{theirs}.weight",), (outputs, inputs * height * width), shape)


CONVNEXT = Tower(
    section=convnext_section,
    links=convnext_links,
    # The last norm is that of the mean of all rows, and a detector's heads read rows of several stages.
    without_effect=frozenset({"image_size", "layer_norm_eps", "out_features", "out_indices", "stage_names"}),
    unused=("layernorm.*", "classifier.*"),
    spelling={_PREFIX: ""},
)  # fmt: skip
