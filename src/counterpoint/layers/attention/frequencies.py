"""Frequencies of rotary positions, in radians per position: plain, or scaled for longer documents.

The formulas are those of the papers and of Llama 3's code, in the order of operations of transformers.
"""

import math

import torch
from torch import Tensor

from counterpoint.layers.attention.rope import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeScalingSection,
    YarnScaling,
)


def frequencies(theta: float, exponents: Tensor, scaling: RopeScalingSection | None, extents: Tensor | None) -> Tensor:
    """Frequencies (pairs,), or (rows, pairs) where they depend on the lengths of documents.

    `exponents` (pairs,) are 2 i / width of each pair i of the columns that rotate, and `extents` int64 (rows,) the
    positions that each row's document has.
    """
    match scaling:
        case None:
            return theta**-exponents
        case LinearScaling():
            return theta**-exponents / scaling.factor
        case Llama3Scaling():
            return _by_wavelength(theta**-exponents, scaling)
        case YarnScaling():
            return _yarn(theta, exponents, scaling)
        case DynamicScaling():
            return _dynamic(theta, exponents, scaling, _lengths(extents, exponents))
        case LongScaling():
            return _long(theta, exponents, scaling, _lengths(extents, exponents))
    raise AssertionError(f"a scaling of kind {scaling.kind} has no frequencies")


def _lengths(extents: Tensor | None, exponents: Tensor) -> Tensor:
    assert extents is not None, "a batch says how long documents are"
    return extents[:, None].to(exponents.dtype)


def _by_wavelength(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Llama 3: slow pairs become slower, by their rotations in a document of the original length."""
    rotations = scaling.original_positions * plain / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((rotations - low) / (high - low)).clamp(0.0, 1.0)
    return plain * (kept + (1.0 - kept) / scaling.factor)


def _yarn(theta: float, exponents: Tensor, scaling: YarnScaling) -> Tensor:
    """YaRN (arXiv:2309.00071, section 3.2), whose ramp runs over the numbers of pairs, as in its authors' code."""
    pairs = exponents.shape[0]
    low, high = (
        _pair_with(rotations, theta, 2 * pairs, scaling) for rotations in (scaling.beta_fast, scaling.beta_slow)
    )
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    pair = torch.arange(pairs, device=exponents.device, dtype=exponents.dtype)
    slowed = ((pair - low) / (0.001 if low == high else high - low)).clamp(0.0, 1.0)
    plain = theta**-exponents
    return plain / scaling.factor * slowed + plain * (1.0 - slowed)


def _pair_with(rotations: float, theta: float, width: int, scaling: YarnScaling) -> float:
    """The number of the pair, or a place between pairs, with so many rotations in a document of the original length."""
    return width * math.log(scaling.original_positions / (rotations * 2 * math.pi)) / (2 * math.log(theta))


def _dynamic(theta: float, exponents: Tensor, scaling: DynamicScaling, lengths: Tensor) -> Tensor:
    """The base grows, so that the slowest pair rotates about as far in long documents as in the original ones."""
    width = 2 * exponents.shape[0]
    longer = lengths.clamp(min=scaling.original_positions) / scaling.original_positions
    base = theta * (scaling.factor * longer - (scaling.factor - 1)) ** (width / (width - 2))
    return base**-exponents


def _long(theta: float, exponents: Tensor, scaling: LongScaling, lengths: Tensor) -> Tensor:
    """LongRoPE (arXiv:2402.13753): factors of pairs, by whether a document is longer than the original ones."""
    short, long = (exponents.new_tensor(factors) for factors in (scaling.short_factors, scaling.long_factors))
    return theta**-exponents / torch.where(lengths > scaling.original_positions, long, short)
