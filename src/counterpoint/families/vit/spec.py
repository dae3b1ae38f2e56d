"""Section and facts of vision transformers, without torch (Dosovitskiy et al., 2020, arXiv:2010.11929)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from counterpoint.families.encoder import (
    TowerSection,
    head_problems,
    idle_keys,
    layered_cuts,
    layered_rules,
    projector_problems,
    tower_facts,
)
from counterpoint.families.images import channel_problems, image_problems
from counterpoint.kinds.family import Ends, Family
from counterpoint.kinds.keeps import norm_keeps
from counterpoint.kinds.rules import TensorRule
from counterpoint.modalities import AnyImage
from counterpoint.modalities.images.spec import ImageIntake
from counterpoint.plan.kept import KEEPS_NOTHING, Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.tensors import linear, norm, products
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Count, Index, Number, Positive

PositionFit = Literal["stretch", "crop", "corners", "antialias"]
"""How an image's grid reads a square table of positions, always by bilinear interpolation: over the whole table,
entries taken as areas; over the square that the image is cut from (RADIO); corner to corner (Qwen3-VL); or over the
whole table with a wider filter where the grid is coarser than the table (SigLIP 2)."""


class VitConfig(TowerSection):
    """A vision transformer and its projector (Dosovitskiy et al., 2020, arXiv:2010.11929)."""

    kind: Literal["vit"]
    image: AnyImage
    """How images become patches; its key `kind` names the kind of images, by default pictures."""
    patch: Count
    """Side of a square patch. Unit: pixels."""
    channels: Annotated[Literal[1, 3], Number] = 3
    """Channels of a pixel: 3 for colour, 1 for grey or depth. Unit: channels."""
    frames: Count = 1
    """Pictures that a patch spans: consecutive frames of a video; a single image is repeated in each.
    Unit: pictures."""
    patch_bias: bool = True
    """Whether the patch embedding has a bias."""
    positions: Index = 16
    """Side of the square table of learned position embeddings; 0: there is none. Unit: patches."""
    fit: PositionFit = "stretch"
    """How the position table is interpolated to an image's grid of patches, always bilinearly: `stretch` over the whole
    table, `crop` over the square that the image is cut from (RADIO), `corners` corner to corner (Qwen3-VL), `antialias`
    over the whole table with a wider filter where the grid is coarser (SigLIP 2)."""
    rotary_theta: Positive | None = None
    """Base of the wavelengths of rotary positions by row and column of a patch, for which the head width must be a
    multiple of 4; null: no rotary positions. No unit."""
    prefix: Index = 0
    """Learned rows (class and register tokens) before the patches of each image, which do not leave the encoder.
    Unit: rows."""
    embed_norm: bool = False
    """Whether a norm follows the patch embedding."""
    merge: Count = 1
    """`merge` x `merge` neighbouring patches become one row of the target. Unit: patches."""
    window: Count | None = None
    """Side of the square windows that attention is limited to, a multiple of `merge` and without `prefix`; null:
    attention sees the whole image. Unit: patches."""
    full_layers: Annotated[tuple[Index, ...], Field(strict=False)] = ()
    """Layers, counted from 0, whose attention covers the whole image despite `window`. Unit: layers."""

    @property
    def patch_dim(self) -> int:
        """Values of one flattened patch, in (channel, frame, row, column) order."""
        return self.channels * self.frames * self.patch**2

    def is_windowed(self, layer: int) -> bool:
        """Whether attention of a layer is limited to windows."""
        return self.window is not None and layer not in self.full_layers


def _facts(section: VitConfig, ends: Ends) -> ModelFacts:
    """Its input rows are flattened patches."""
    side = section.window or 0
    windows = {layer: side**2 for layer in range(section.layers) if section.is_windowed(layer)}
    facts = tower_facts(section, ends, section.merge**2, _embedding(section), section.patch_dim, windows)
    return replace(facts, prefix=section.prefix)


def _embedding(section: VitConfig) -> PartFacts:
    """Patches to rows, with learned positions and learned prefix rows."""
    hidden = section.hidden
    patch = linear("patch", section.patch_dim, hidden, bias=section.patch_bias)
    entries = {"positions": section.positions**2, "prefix": section.prefix}
    tables = tuple((f"{name}.weight", (count, hidden)) for name, count in entries.items() if count)
    first = norm("norm", hidden, section.norm) if section.embed_norm else ()
    # Four entries of the table for each patch, by places and shares.
    entries_read = (Kept(4, "int64", "rows"), Kept(2, cut="rows")) if section.positions else ()
    read = products(tables[:1]) if section.fit == "antialias" else 0
    return PartFacts(
        name="embed",
        tensors=(*patch, *tables, *first),
        flops_per_row=products(patch) + read,
        kept=Keeps.alike(Kept(section.patch_dim, cut="rows"), *entries_read)
        + (norm_keeps(section.norm, hidden).eager if section.embed_norm else KEEPS_NOTHING),
        hidden_out=hidden,
    )


def _problems(where: str, section: VitConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    model = f"{where}.model"
    yield from projector_problems(model, section)
    yield from image_problems(model, section.image, section.patch, section.merge)
    yield from head_problems(model, section)
    yield from channel_problems(model, section.image, section.channels)
    if section.rotary_theta is not None and section.head_size % 4:
        got = f"{section.rotary_theta:g} with heads {section.head_size} wide"
        expected = "a head width that is a multiple of 4, because pairs rotate by rows and by columns"
        yield Problem(f"{model}.rotary_theta", got, expected, "change heads or leave it out")
    if not section.positions and section.fit != "stretch":
        expected = f"stretch, because {model}.positions is 0"
        yield Problem(f"{model}.fit", show(section.fit), expected, "leave it out or give the side of a table")
    if section.window is None and section.full_layers:
        expected = f"none, because {model}.window is null"
        yield Problem(f"{model}.full_layers", f"{len(section.full_layers)} layers", expected, "leave them out")
    if section.window is not None and section.window % section.merge:
        expected = f"a multiple of {model}.merge, {section.merge}"
        yield Problem(f"{model}.window", f"{section.window}", expected, "change one of them")
    if section.window is not None and section.prefix:
        expected = "null, because learned rows before an image are in no window"
        got = f"{section.window} with prefix {section.prefix}"
        yield Problem(f"{model}.window", got, expected, "leave one of them out")
    for i, layer in enumerate(section.full_layers):
        if layer >= section.layers:
            expected = f"a layer of the model, 0 to {section.layers - 1}"
            yield Problem(f"{model}.full_layers.{i}", f"{layer}", expected, "choose one of them")


def _intake(module: str, section: VitConfig, mark: str) -> ImageIntake:
    return ImageIntake(
        module,
        section.image,
        patch=section.patch,
        merge=section.merge,
        channels=section.channels,
        mark=mark,
        frames=section.frames,
        prefix=section.prefix,
        window=section.window or 0,
        queries=section.queries,
    )


_RULES = (
    TensorRule("embed.patch.*", "share"),
    TensorRule("embed.positions.weight", "share"),
    TensorRule("embed.prefix.weight", "share"),
    TensorRule("embed.norm.*", "share"),
)

VIT = Family(
    section=VitConfig,
    called="a vit",
    takes=lambda section: section.image.kind,
    intake=_intake,
    facts=_facts,
    cuts=layered_cuts,
    problems=_problems,
    rules=lambda section: (*_RULES, *layered_rules(section)),
    resolved=lambda section: {"full_layers": tuple(sorted(section.full_layers))},
    idle=idle_keys,
    parts="counterpoint.families.vit.model:parts",
)
