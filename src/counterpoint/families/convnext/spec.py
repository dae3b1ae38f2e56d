"""Section and facts of ConvNeXt V2, without torch (Woo et al., 2023, arXiv:2301.00808)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from counterpoint.families.encoder import (
    EncoderSection,
    idle_keys,
    projector_cuts,
    projector_facts,
    projector_problems,
    projector_rules,
)
from counterpoint.families.images import channel_problems, image_problems
from counterpoint.kinds.cuts import Cuts
from counterpoint.kinds.family import Ends, Family
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.modalities import AnyImage
from counterpoint.modalities.images.spec import ImageIntake
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import ENCODER_LAYER, PartFacts
from counterpoint.plan.tensors import linear, mlp, norm, products
from counterpoint.projectors import ProjectorConfig
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Number, Positive

KERNEL = 7
"""Side of the kernel of a layer's convolution."""

EXPANSION = 4
"""Inner width of a layer's MLP relative to the width of its rows."""

PerStage = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]


class Stage(NamedTuple):
    """`layers` with rows of `width` columns; a row covers `area` patches, groups have `side` x `side` rows."""

    number: int
    width: int
    layers: range
    side: int
    area: int


class ConvnextConfig(EncoderSection):
    """ConvNeXt V2 and its projector (Woo et al., 2023, arXiv:2301.00808); pp and cp are 1."""

    kind: Literal["convnext"]
    image: AnyImage
    """How images become patches; its key `kind` names the kind of images, by default pictures."""
    patch: Count = 4
    """Side of a square patch; each patch becomes one row of the first stage. Unit: pixels."""
    channels: Annotated[Literal[1, 3], Number] = 3
    """Channels of a pixel: 3 for colour, 1 for grey or depth. Unit: channels."""
    depths: PerStage
    """Layers of each stage. Each stage after the first halves both sides of the grid. Unit: layers."""
    widths: PerStage
    """Width of the rows of each stage, one entry for each of `depths`. Unit: columns."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu"] = "gelu"
    """Activation of the layers."""
    norm_eps: Positive = 1e-6
    """Added to the variance inside norms. No unit."""
    merge: Count = 1
    """`merge` x `merge` rows of the last stage become one row of the target. Unit: rows."""
    projector: ProjectorConfig

    @property
    def projected(self) -> int:
        return self.widths[-1]

    @property
    def side(self) -> int:
        """Side, in patches, of the square that becomes one row of the target."""
        return self.merge * (1 << len(self.depths) - 1)

    @property
    def patch_dim(self) -> int:
        """Values of one flattened patch, in (channel, row, column) order."""
        return self.channels * self.patch**2

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order; layers are numbered across stages."""
        runs = pairwise(accumulate(self.depths, initial=0))
        return tuple(
            Stage(number, width, range(*run), side=self.side >> number, area=1 << 2 * number)
            for number, (width, run) in enumerate(zip(self.widths, runs, strict=True))
        )


def _facts(section: ConvnextConfig, ends: Ends) -> ModelFacts:
    """Its input rows are flattened patches."""
    last = section.stages[-1].area
    return ModelFacts(
        parts=(
            _embedding(section),
            *(part for stage in section.stages for part in _stage(section, stage)),
            _of_fewer_rows(projector_facts(section, ends, section.merge**2), last),
        ),
        hidden=section.widths[0],
        hidden_in=section.patch_dim,
        hidden_out=ends.leaving,
        row_multiple=section.side**2,
        queries=section.queries,
        residual_sums=sum(section.depths),
    )


def _embedding(section: ConvnextConfig) -> PartFacts:
    """The stem: patches to rows, and a norm."""
    width = section.widths[0]
    patch = linear("patch", section.patch_dim, width, bias=True)
    return PartFacts(
        name="embed",
        tensors=(*patch, *norm("norm", width, "layer")),
        flops_per_row=products(patch),
        kept=Keeps.alike(Kept(section.patch_dim + width, cut="rows"), Kept(2, cut="rows")),
        hidden_out=width,
    )


def _stage(section: ConvnextConfig, stage: Stage) -> Iterator[PartFacts]:
    """The reduction from the previous stage, and the layers."""
    if stage.number:
        yield _of_fewer_rows(_halving(section, stage), stage.area)
    for layer in stage.layers:
        yield _of_fewer_rows(_layer(f"layers.{layer}", stage.width), stage.area)


def _halving(section: ConvnextConfig, stage: Stage) -> PartFacts:
    """A norm, then 2 x 2 rows become one; counted per output row."""
    width = section.widths[stage.number - 1]
    inputs = 4 * width
    merge = linear("merge", inputs, stage.width, bias=True)
    return PartFacts(
        name=f"halve.{stage.number}",
        tensors=(*norm("norm", width, "layer"), *merge),
        flops_per_row=products(merge),
        kept=Keeps.alike(Kept(2 * inputs, cut="rows"), Kept(8, cut="rows")),
        hidden_out=stage.width,
    )


def _layer(name: str, width: int) -> PartFacts:
    """A depthwise convolution, and an MLP with response normalisation inside."""
    inner = EXPANSION * width
    depthwise = (("depthwise.weight", (width, KERNEL, KERNEL)), ("depthwise.bias", (width,)))
    linears = mlp("mlp", width, inner, width, bias=True)
    return PartFacts(
        name=name,
        kinds=(ENCODER_LAYER,),
        tensors=(
            *depthwise,
            *norm("norm", width, "layer"),
            *linears,
            *norm("mlp.response_norm", inner, "layer"),
        ),
        flops_per_row=products((*depthwise, *linears)),
        kept=Keeps.alike(Kept(3 * width, cut="gathered"), Kept(4 * inner)),
        hidden_out=width,
    )


def _of_fewer_rows(part: PartFacts, area: int) -> PartFacts:
    """Facts per row of a stage, converted to facts per input row of the module; a row covers `area` of those."""
    return replace(
        part,
        flops_per_row=-(-part.flops_per_row // area),
        flops_per_pair=tuple((mask, -(-flops // area)) for mask, flops in part.flops_per_pair),
        kept=part.kept.scaled(1 / area),
        rows_per_output=part.rows_per_output * area,
    )


def _cuts(section: ConvnextConfig) -> Cuts:
    widths = {f"widths.{stage}": width for stage, width in enumerate(section.widths)}
    return Cuts.of_all((Cuts(tp=widths), projector_cuts(section)))


def _problems(where: str, section: ConvnextConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    model = f"{where}.model"
    yield from projector_problems(model, section)
    yield from image_problems(model, section.image, section.patch, section.side, "take fewer stages")
    yield from channel_problems(model, section.image, section.channels)
    if len(section.widths) != len(section.depths):
        expected = f"{len(section.depths)}, a width for each number of {model}.depths"
        yield Problem(f"{model}.widths", f"{len(section.widths)} widths", expected, "change one of them")


def _intake(module: str, section: ConvnextConfig, mark: str) -> ImageIntake:
    return ImageIntake(
        module,
        section.image,
        patch=section.patch,
        merge=section.side,
        channels=section.channels,
        mark=mark,
        queries=section.queries,
    )


_RULES = (
    TensorRule("embed.*", "share"),
    TensorRule("halve.*", "rows"),
    TensorRule("layers.*.depthwise.*", "share"),
    TensorRule("layers.*.norm.*", "share"),
    TensorRule("layers.*.response_norm.*", "outputs"),
)

CONVNEXT = Family(
    section=ConvnextConfig,
    called="a convnext",
    takes=lambda section: section.image.kind,
    intake=_intake,
    facts=_facts,
    cuts=_cuts,
    problems=_problems,
    rules=lambda section: (*_RULES, *projector_rules(section)),
    initial=lambda _section: (Initial("*.response_norm.*"),),
    idle=idle_keys,
    whole="a convnext sees whole images, in rows that become fewer and wider",
    fixed=("pp", "chunks", "cp"),
    parts="counterpoint.families.convnext.model:parts",
)
