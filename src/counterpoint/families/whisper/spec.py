"""Section and facts of Whisper's encoder, without torch (Radford et al., 2022, arXiv:2212.04356)."""

import math
from collections.abc import Iterator
from typing import Literal

from counterpoint.families.clips import clip_intake, clip_problems
from counterpoint.families.encoder import (
    TowerSection,
    head_problems,
    idle_keys,
    layered_cuts,
    layered_rules,
    projector_problems,
    tower_facts,
)
from counterpoint.kinds.family import Ends, Family
from counterpoint.kinds.rules import Initial, TensorRule
from counterpoint.modalities.clips.spec import CLIPS, AudioConfig
from counterpoint.plan.kept import Keeps, Kept
from counterpoint.plan.model_facts import ModelFacts
from counterpoint.plan.part_facts import PartFacts
from counterpoint.plan.tensors import linear, products
from counterpoint.section.layout import LayoutConfig
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Positive

_TAPS = 3
"""Width of the filter of each convolution, in frames."""

MOST_MELS = 149
"""Most mel bands so that each contains a frequency of the 400-sample Fourier transform of frames."""


class WhisperConfig(TowerSection):
    """Whisper's encoder of clips and its projector (Radford et al., 2022, arXiv:2212.04356).

    The table of positions is initialised with sinusoids, and is trained unless `train` leaves out `embed.times.*`.
    """

    kind: Literal["whisper"]
    audio: AudioConfig = AudioConfig()
    """How clips become frames."""
    norm_eps: Positive = 1e-5
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu2", "swiglu"] = "gelu"
    key_bias: bool = False
    mels: Count = 80
    """Mel bands of a frame, at most 149; there are 100 frames a second. Unit: bands."""
    positions: Count = 1500
    """Most rows of a clip, of 20 milliseconds each: 1500 are 30 seconds. Unit: rows."""
    stack: Count = 1
    """Consecutive rows that become one row of the target. Unit: rows."""

    @property
    def window(self) -> int:
        """Frames that a row is computed from: two convolutions of width three."""
        return 2 * _TAPS - 1

    @property
    def stride(self) -> int:
        """Frames between the middles of neighbouring windows."""
        return 2


def _facts(section: WhisperConfig, ends: Ends) -> ModelFacts:
    """Its input rows are windows of frames."""
    return tower_facts(section, ends, section.stack, _stem(section), section.window * section.mels)


def _stem(section: WhisperConfig) -> PartFacts:
    """Frames -> rows by two convolutions; the first is computed for each row separately, at three places."""
    hidden = section.hidden
    first = linear("conv1", _TAPS * section.mels, hidden, bias=True)
    second = linear("conv2", _TAPS * hidden, hidden, bias=True)
    return PartFacts(
        name="embed",
        tensors=(*first, *second, ("times.weight", (section.positions, hidden))),
        flops_per_row=_TAPS * products(first) + products(second),
        # GELU keeps its inputs, and the second convolution its own.
        kept=Keeps.alike(
            Kept(_TAPS**2 * section.mels, cut="rows"),
            Kept((2 * _TAPS + 1) * hidden, cut="rows"),
            Kept(1, "int64", "rows"),
        ),
        hidden_out=hidden,
    )


def _problems(where: str, section: WhisperConfig, _layout: LayoutConfig) -> Iterator[Problem]:
    model = f"{where}.model"
    yield from projector_problems(model, section)
    yield from head_problems(model, section)
    yield from clip_problems(model, section, MOST_MELS)
    if section.hidden % 2:
        expected = "an even width, because half of a position are sines and half cosines"
        yield Problem(f"{model}.hidden", f"{section.hidden}", expected, "change it")
    if section.stack > section.positions:
        expected = f"at most {model}.positions, {section.positions}"
        yield Problem(f"{model}.stack", f"{section.stack}", expected, "change one of them")


def _sinusoid(row: int, column: int, columns: int) -> float:
    """Entry (row, column) of the sinusoids: sines, then cosines, with wavelengths from 2 pi to 20,000 pi (Whisper)."""
    half = columns // 2
    angle = row * math.exp(-math.log(10000.0) * (column % half) / max(1, half - 1))
    return math.sin(angle) if column < half else math.cos(angle)


_RULES = (TensorRule("embed.conv[12].*", "share"), TensorRule("embed.times.weight", "share"))

WHISPER = Family(
    section=WhisperConfig,
    called="a whisper",
    takes=lambda _section: CLIPS.name,
    intake=clip_intake,
    facts=_facts,
    cuts=layered_cuts,
    problems=_problems,
    rules=lambda section: (*_RULES, *layered_rules(section)),
    initial=lambda _section: (Initial("embed.times.weight", of_place=_sinusoid),),
    idle=idle_keys,
    parts="counterpoint.families.whisper.model:parts",
)
