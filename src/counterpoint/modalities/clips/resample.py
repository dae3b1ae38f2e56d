"""Resampling to the rate of the encoders: a sinc filter under a Kaiser window, applied phase by phase.

Flat up to 0.9 of the lower Nyquist frequency, 100 dB down beyond it (Kaiser, 1974). The first sample keeps its time:
the filter adds no delay.
"""

from functools import lru_cache
from math import ceil, gcd

import numpy as np

from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.mel import Doubles
from counterpoint.modalities.clips.spec import RATE

_CROSSINGS = 64
"""Zero crossings of the sinc on either side."""

_SHAPE = 10.06
"""Of the window: 100 dB of attenuation."""

_CUTOFF = 0.95
"""The middle of the transition, of the lower of the two Nyquist frequencies."""

_COLUMNS = 128
"""Output samples that are computed of one stretch of input."""

_ROWS = 4096
"""Stretches of input that are copied at a time."""

_REMEMBERED = 32


def resampled_length(samples: int, rate: int) -> int:
    """The number of samples that `samples` at `rate` a second become at RATE: all that begin within their time."""
    return -(-samples * RATE // rate)


def needed_length(samples: int, rate: int) -> int:
    """The number of samples at `rate` that the first `samples` at RATE depend on."""
    if rate == RATE:
        return samples
    up, down = _ratio(rate)
    return samples * down // up + _half_width(rate) + 1


def resample(wave: Floats, rate: int) -> Floats:
    """A waveform (samples,) of `rate` samples a second at RATE, float32 (resampled_length,); silence lies around it."""
    if rate == RATE:
        return wave
    (up, down), half = _ratio(rate), _half_width(rate)
    period = up * max(1, _COLUMNS // up)
    step = period * down // up
    total = resampled_length(len(wave), rate)
    rows = -(-total // period)
    padded = np.zeros(rows * step + step + 2 * half + 2, dtype=np.float64)
    padded[half : half + len(wave)] = wave
    out = np.empty((rows, period), dtype=np.float32)
    for first in range(0, min(period, total), _COLUMNS):
        stop = min(first + _COLUMNS, period)
        weights = _weights(rate, first, stop)
        stretches = np.lib.stride_tricks.sliding_window_view(padded, len(weights))[first * down // up :: step]
        for row in range(0, rows, _ROWS):
            part = slice(row, min(row + _ROWS, rows))
            out[part, first:stop] = np.ascontiguousarray(stretches[part]) @ weights
    return out.reshape(-1)[:total]


def _ratio(rate: int) -> tuple[int, int]:
    """RATE / rate in lowest terms."""
    common = gcd(RATE, rate)
    return RATE // common, rate // common


def _scale(rate: int) -> float:
    """The cutoff, of the input's Nyquist frequency."""
    return _CUTOFF * min(1.0, RATE / rate)


def _half_width(rate: int) -> int:
    return ceil(_CROSSINGS / _scale(rate))


@lru_cache(_REMEMBERED)
def _weights(rate: int, first: int, stop: int) -> Doubles:
    """Weights (input samples, stop - first) of the output samples `first` to `stop` of a period.

    The input begins half a filter before the sample at or before output sample `first`.
    """
    (up, down), half = _ratio(rate), _half_width(rate)
    begin = first * down // up
    inputs = np.arange(begin - half, (stop - 1) * down // up + half + 1, dtype=np.int64)
    outputs = np.arange(first, stop, dtype=np.int64)
    distances = (inputs[:, None] * up - outputs * down) / up
    inside = np.maximum(0.0, 1 - (distances / half) ** 2)
    window = np.where(np.abs(distances) <= half, np.i0(_SHAPE * np.sqrt(inside)), 0.0)
    weights = np.sinc(_scale(rate) * distances) * window
    normalised: Doubles = weights / weights.sum(axis=0)
    return normalised
