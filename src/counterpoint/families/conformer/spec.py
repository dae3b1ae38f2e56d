"""Section and facts of FastConformer encoders, without torch (Rekesh et al., 2023, arXiv:2305.05084)."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from counterpoint.families.clips import clip_intake, clip_problems
from counterpoint.families.encoder import (
    LayeredSection,
    head_problems,
    idle_keys,
    layer_facts,
    layered_cuts,
    layered_rules,
    projector_facts,
    projector_problems,
)
from counterpoint.kinds.family import Ends, Family
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.modalities.clips.spec import CLIPS, AudioConfig
from counterpoint.plan import tensors
from counterpoint.plan.cost import ALL
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import ENCODER_LAYER, Mixer, PartFacts
from counterpoint.plan.tensors import Tensors, below, joined, linear, norm, products
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Positive

_TAPS = 3
"""Width of a filter of the stem, over time and over mels."""

_LONG_CLIP = 3000
"""Frames of a clip of 30 seconds, for the estimate of what attention keeps."""

MOST_MELS = 192
"""Most mel bands so that each contains a frequency of the 512-sample Fourier transform of frames."""


class ConformerConfig(LayeredSection):
    """Parakeet's FastConformer encoder of clips and its projector (Rekesh et al., 2023, arXiv:2305.05084)."""

    kind: Literal["conformer"]
    audio: AudioConfig = AudioConfig()
    """How clips become frames."""
    norm_eps: Positive = 1e-5
    mels: Count = 80
    """Mel bands of a frame, each normalised over the clip; at most 192 and a multiple of 2^`halvings`. There are 100
    frames a second. Unit: bands."""
    positions: Count = 5000
    """Most rows of a clip, of 2^`halvings` frames each. Unit: rows."""
    stem_channels: Count = 256
    """Channels of the convolutions that turn frames into rows. Unit: channels."""
    halvings: Annotated[int, Field(ge=1, le=8)] = 3
    """Strided convolutions of the stem; each halves frames and bands. Unit: convolutions."""
    conv: Count = 9
    """Width of the convolution of each layer over time, odd. Unit: rows."""
    bias: bool = True
    """Whether the linear layers of attention and MLPs have biases."""
    conv_bias: bool = True
    """Whether the convolution modules of the layers have biases."""
    scale_input: bool = True
    """Whether the input rows of the first layer are multiplied by the square root of their width."""

    @property
    def stack(self) -> int:
        """Rows that become one row of the target."""
        return 1

    @property
    def stride(self) -> int:
        """Frames between the middles of neighbouring windows."""
        return 1 << self.halvings

    @property
    def window(self) -> int:
        """Frames that a row is computed from: each halving combines three places, of which neighbours share one."""
        return 2 * self.stride - 1

    @property
    def stem_mels(self) -> int:
        """Bands that remain after all halvings."""
        return self.mels // self.stride


def _facts(section: ConformerConfig, ends: Ends) -> ModelFacts:
    """Its input rows are windows of frames."""
    return ModelFacts(
        parts=(
            _subsampling(section),
            *layer_facts(section, ends, section.stack, lambda number: _layer(f"layers.{number}", section)),
            projector_facts(section, ends, section.stack),
        ),
        hidden=section.hidden,
        hidden_in=section.window * section.mels,
        hidden_out=ends.leaving,
        row_multiple=section.stack,
        queries=section.queries,
        residual_sums=4 * section.layers,
    )


def _subsampling(section: ConformerConfig) -> PartFacts:
    """Windows of frames -> rows by strided convolutions, each of which halves frames and bands."""
    channels = section.stem_channels
    filters = [_filter("first", 1, channels)]
    for step in range(section.halvings - 1):
        pointwise = (("pointwise.weight", (channels, channels, 1, 1)), ("pointwise.bias", (channels,)))
        filters.append(below(f"steps.{step}", (*_filter("depthwise", 1, channels), *pointwise)))
    flops, kept = 0, section.window * section.mels
    for halving, filter_ in enumerate(filters, start=1):
        places = (2 * section.stride // 2**halving - 1) * (section.mels // 2**halving)
        flops += places * products(filter_)
        kept += places * channels * (2 if halving == 1 else 3)
    last = linear("linear", channels * section.stem_mels, section.hidden, bias=True)
    return PartFacts(
        name="embed",
        tensors=(*joined(filters), *last),
        flops_per_row=flops + products(last),
        kept=Keeps.alike(Kept(kept, cut="rows")),
        hidden_out=section.hidden,
    )


def _filter(name: str, inputs: int, outputs: int) -> Tensors:
    return ((f"{name}.weight", (outputs, inputs, _TAPS, _TAPS)), (f"{name}.bias", (outputs,)))


def _layer(name: str, section: ConformerConfig) -> PartFacts:
    """Two MLPs, relative attention and a convolution, with their norms and one more after them."""
    hidden, ffn = section.hidden, section.ffn
    attention = joined(linear(f"attention.{piece}", hidden, hidden, section.bias) for piece in "qkvo")
    seen = min(section.positions, _LONG_CLIP // section.stride)
    distances = linear("attention.r", hidden, hidden, bias=False)
    biases = tuple((f"attention.{of}_bias", (section.heads, section.head_size)) for of in ("content", "distance"))
    conv = joined(linear(f"conv.{piece}", hidden, hidden, section.conv_bias) for piece in ("value", "gate", "o"))
    depthwise = linear("conv.depthwise", section.conv, hidden, section.conv_bias)
    mlps = joined(tensors.mlp(which, hidden, ffn, hidden, bias=section.bias) for which in ("first_mlp", "second_mlp"))
    places = ("first_norm", "attention_norm", "conv_norm", "conv.norm", "second_norm", "norm")
    linears = (*attention, *conv, *depthwise, *mlps)
    return PartFacts(
        name=name,
        kinds=(ENCODER_LAYER,),
        tensors=(*joined(norm(place, hidden, "layer") for place in places), *linears, *distances, *biases),
        # For each row, distances in both directions are projected; a query has twice as many distances as keys.
        flops_per_row=products(linears) + 2 * products(distances),
        flops_per_pair=((ALL, 8 * hidden),),
        # The scores of distances make torch compute attention in plain products, which keep all shares.
        kept=Keeps.alike(
            Kept(27 * hidden), Kept(3 * hidden, "wide"), Kept(4 * ffn), Kept(section.heads * seen, "wide")
        ),
        mixers=(Mixer(section.heads, section.heads, section.head_size),),
        hidden_out=hidden,
    )


def _problems(where: str, section: ConformerConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    model = f"{where}.model"
    yield from projector_problems(model, section)
    yield from head_problems(model, section)
    yield from clip_problems(model, section, MOST_MELS)
    if section.hidden % 2:
        expected = "an even width, because a distance is sines and cosines in turn"
        yield Problem(f"{model}.hidden", f"{section.hidden}", expected, "change it")
    if section.mels % section.stride:
        expected = f"a multiple of {section.stride}, because {_count(section.halvings)} convolutions halve the bands"
        yield Problem(f"{model}.mels", f"{section.mels}", expected, "change it")
    if section.conv % 2 == 0:
        expected = "an odd width, because as many rows are convolved on either side"
        yield Problem(f"{model}.conv", f"{section.conv}", expected, "change it")


def _count(number: int) -> str:
    return {1: "one", 2: "two", 3: "three", 4: "four"}.get(number, str(number))


_RULES = (
    TensorRule("embed.first.*", "share"),
    TensorRule("embed.steps.*", "share"),
    TensorRule("embed.linear.*", "share"),
    TensorRule("*.attention.r.weight", "outputs"),
    TensorRule("*.attention.content_bias", "outputs"),
    TensorRule("*.attention.distance_bias", "outputs"),
    TensorRule("*_mlp.up.*", "outputs"),
    TensorRule("*_mlp.down.weight", "inputs"),
    TensorRule("*_mlp.down.bias", "rows"),
    TensorRule("*.conv.o.weight", "inputs"),
    TensorRule("*.conv.o.bias", "rows"),
    TensorRule("*.conv.*", "outputs"),
)

CONFORMER = Family(
    section=ConformerConfig,
    called="a conformer",
    takes=lambda _section: CLIPS.name,
    intake=partial(clip_intake, normalised=True),
    facts=_facts,
    cuts=layered_cuts,
    problems=_problems,
    rules=lambda section: (*_RULES, *layered_rules(section)),
    # The deviation of torch's own uniform filters of 3 x 3, and of width 9.
    initial=lambda _section: (Initial("embed.first.weight", std=0.19), Initial("*.depthwise.weight", std=0.19)),
    idle=idle_keys,
    parts="counterpoint.families.conformer.model:parts",
)
