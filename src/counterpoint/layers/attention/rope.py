"""Rotary positions for documents longer than those a model was trained on, before torch."""

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from counterpoint.section.of_kind import KIND, OfKind
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Positive, Section

Factors = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
"""A factor for each pair of an attention head's columns."""


class RopeScalingSection(Section):
    """Rotary positions for documents longer than those a model was trained on: pairs rotate more slowly."""

    kind: Any
    """How pairs are slowed."""

    @property
    def attention(self) -> float:
        """Factor on cosines and sines, by whose square products of queries and keys grow."""
        return 1.0

    @property
    def needs_lengths(self) -> bool:
        """Whether angles depend on the length of a row's document."""
        return False


class LinearScaling(RopeScalingSection):
    """All pairs rotate more slowly (Chen et al., 2023, arXiv:2306.15595)."""

    kind: Literal["linear"]
    factor: Positive
    """Factor by which all pairs rotate more slowly. No unit."""


class DynamicScaling(RopeScalingSection):
    """The base of the angles grows with the length of each document that is longer than the original ones (as in
    transformers; its exponent is that of NTK-aware interpolation in Peng et al., 2023, arXiv:2309.00071)."""

    kind: Literal["dynamic"]
    factor: Positive
    """How fast the base grows with a document's length. No unit."""
    original_positions: Count
    """Document length that the model was trained on. Unit: tokens."""

    @property
    def needs_lengths(self) -> bool:
        return True


class YarnScaling(RopeScalingSection):
    """Slow pairs rotate more slowly, fast ones as before, by their rotations in a document of the original length
    (YaRN; Peng et al., 2023, arXiv:2309.00071)."""

    kind: Literal["yarn"]
    factor: Positive
    """Factor by which slow pairs rotate more slowly. No unit."""
    original_positions: Count
    """Document length that the model was trained on. Unit: tokens."""
    beta_fast: Positive = 32.0
    """Pairs with more rotations than this in `original_positions` tokens stay as they are. Unit: rotations."""
    beta_slow: Positive = 1.0
    """Pairs with fewer rotations than this in `original_positions` tokens rotate `factor` times more slowly; pairs
    between the two bounds are interpolated. Unit: rotations."""
    truncate: bool = True
    """Whether the bounds are widened to whole pairs."""
    attention_factor: Positive | None = None
    """Factor on cosines and sines; null: 0.1 ln(`factor`) + 1, and 1 for factors below 1. No unit."""

    @property
    def attention(self) -> float:
        return yarn_attention(self.factor) if self.attention_factor is None else self.attention_factor


class Llama3Scaling(RopeScalingSection):
    """Slow pairs rotate more slowly, fast ones as before, by wavelength (Grattafiori et al., 2024,
    arXiv:2407.21783)."""

    kind: Literal["llama3"]
    factor: Positive
    """Factor by which slow pairs rotate more slowly. No unit."""
    low_freq_factor: Positive = 1.0
    """Pairs with fewer rotations than this in `original_positions` tokens rotate `factor` times more slowly.
    Unit: rotations."""
    high_freq_factor: Positive = 4.0
    """Pairs with more rotations than this in `original_positions` tokens stay as they are; pairs between the two bounds
    are interpolated. Unit: rotations."""
    original_positions: Count = 8192
    """Document length that the model was trained on. Unit: tokens."""


class LongScaling(RopeScalingSection):
    """Each pair rotates more slowly by a factor of its own, with other factors in documents that are longer than the
    original ones (LongRoPE; Ding et al., 2024, arXiv:2402.13753)."""

    kind: Literal["longrope"]
    original_positions: Count
    """Document length that the model was trained on. Unit: tokens."""
    short_factors: Factors
    """Factor by which each pair rotates more slowly in documents of up to `original_positions` positions. No unit."""
    long_factors: Factors
    """Factor by which each pair rotates more slowly in longer documents. No unit."""
    attention_factor: Positive = 1.0
    """Factor on cosines and sines. No unit."""

    @property
    def attention(self) -> float:
        return self.attention_factor

    @property
    def needs_lengths(self) -> bool:
        return True


SCALINGS: Mapping[str, type[RopeScalingSection]] = MappingProxyType({
    "linear": LinearScaling, "dynamic": DynamicScaling, "yarn": YarnScaling, "llama3": Llama3Scaling,
    "longrope": LongScaling,
})  # fmt: skip


def _with_kind(value: object) -> object:
    """A section from before sections had kinds: without positions of the original it is linear, else of Llama 3."""
    if not isinstance(value, Mapping) or KIND in value or value.get("original_positions", 0) is not None:
        return value
    said = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_positions": None}
    return {KIND: "linear", **{key: one for key, one in value.items() if key not in said or one != said[key]}}


RopeScaling = Annotated[RopeScalingSection, OfKind(lambda: SCALINGS, default="llama3"), BeforeValidator(_with_kind)]
"""A section of any kind of scaling."""


def yarn_attention(factor: float, scale: float = 1.0) -> float:
    """What YaRN multiplies cosines and sines by in documents that are `factor` times longer (arXiv:2309.00071, eq. 22,
    where `scale` is 1)."""
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def long_attention(factor: float, original_positions: int) -> float:
    """What LongRoPE multiplies cosines and sines by in documents that are `factor` times longer (arXiv:2402.13753)."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original_positions))


def scaling_problems(above: str, scaling: RopeScalingSection, width: int, theta: float | None) -> Iterator[Problem]:
    """What does not fit a head of which `width` columns rotate with the base `theta`; the section is `above` it."""
    where = f"{above}.rope_scaling"
    match scaling:
        case YarnScaling() if theta is not None and theta <= 1:
            expected = f"more than 1, because {where} is of kind yarn"
            yield Problem(f"{above}.rope_theta", f"{theta:g}", expected, "change one")
        case Llama3Scaling(low_freq_factor=low, high_freq_factor=high) if low >= high:
            expected = f"less than {where}.high_freq_factor, {high:g}"
            yield Problem(f"{where}.low_freq_factor", f"{low:g}", expected, "change one")
        case YarnScaling(beta_slow=slow, beta_fast=fast) if slow >= fast:
            yield Problem(f"{where}.beta_slow", f"{slow:g}", f"less than {where}.beta_fast, {fast:g}", "change one")
        case DynamicScaling() if width <= 2:
            expected = "at least 4 columns of a head that rotate"
            yield Problem(f"{where}.kind", f"dynamic with {width} columns", expected, "choose another kind")
        case LongScaling():
            for key, factors in (("short_factors", scaling.short_factors), ("long_factors", scaling.long_factors)):
                if len(factors) != width // 2:
                    expected = f"one for each of the {width // 2} pairs of columns that rotate"
                    yield Problem(f"{where}.{key}", f"{len(factors)} factors", expected, "change the list")
