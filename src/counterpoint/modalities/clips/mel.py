"""Log-mel frames of a waveform, as Whisper reads them (Radford et al., 2022, arXiv:2212.04356).

Bands are Slaney's (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above, each of area one.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.spec import HOP, RATE

_WIDTH = 400
"""Samples under a frame's window."""

_FLOOR = 1e-10
_DECADES = 8.0
"""What is this far below the loudest band of a clip is cut off."""

_BREAK_HERTZ, _HERTZ_PER_MEL = 1000.0, 200.0 / 3
_BREAK_MEL = _BREAK_HERTZ / _HERTZ_PER_MEL
_STEP_PER_MEL = np.log(6.4) / 27
"""Above the break a factor of 6.4 takes 27 mels."""

Doubles = NDArray[np.float64]

_HANN: Doubles = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WIDTH) / _WIDTH)
"""The periodic window, (_WIDTH,)."""


def log_mel(wave: Floats, mels: int) -> Floats:
    """One frame for every HOP samples: (samples,) in [-1, 1], longer than half a window -> float32 (frames, mels)."""
    padded = np.pad(wave.astype(np.float64), _WIDTH // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WIDTH)[::HOP][: len(wave) // HOP]
    powers = np.abs(np.fft.rfft(frames * _HANN)) ** 2
    bands: Doubles = np.log10(np.maximum(powers @ mel_filters(mels), _FLOOR))
    scaled: Floats = ((np.maximum(bands, bands.max() - _DECADES) + 4) / 4).astype(np.float32)
    return scaled


@cache
def mel_filters(mels: int, width: int = _WIDTH) -> Doubles:
    """Weights (frequencies, mels) of the frequencies of a transform of `width` samples in each band."""
    top = _mel_of(RATE / 2)
    corners = _hertz_of(np.linspace(0.0, top, mels + 2))
    frequencies = np.linspace(0.0, RATE / 2, width // 2 + 1)
    rising = (frequencies[:, None] - corners[:-2]) / np.diff(corners)[:-1]
    falling = (corners[2:] - frequencies[:, None]) / np.diff(corners)[1:]
    triangles: Doubles = np.maximum(0.0, np.minimum(rising, falling)) * 2 / (corners[2:] - corners[:-2])
    return triangles


def _mel_of(hertz: float) -> float:
    if hertz < _BREAK_HERTZ:
        return hertz / _HERTZ_PER_MEL
    return float(_BREAK_MEL + np.log(hertz / _BREAK_HERTZ) / _STEP_PER_MEL)


def _hertz_of(mels: Doubles) -> Doubles:
    logarithmic = _BREAK_HERTZ * np.exp(_STEP_PER_MEL * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _HERTZ_PER_MEL, logarithmic)
