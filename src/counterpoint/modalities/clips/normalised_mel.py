"""Log-mel frames of a waveform, each band normalised over the clip, as in NeMo and so for Parakeet.

The numbers are those of `ParakeetFeatureExtractor` in transformers.
"""

import numpy as np

from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.mel import Doubles, mel_filters
from counterpoint.modalities.clips.spec import HOP

_EMPHASIS = 0.97
"""What is left of a sample is subtracted from the next one."""

_WIDTH, _TRANSFORM = 400, 512
"""Samples under a frame's window, which lies in the middle of those that are transformed."""

_LOG_GUARD = 2.0**-24
_SPREAD_GUARD = 1e-5


def normalised_log_mel(wave: Floats, mels: int) -> Floats:
    """One frame for every whole HOP samples: (samples,) of at least two frames -> float32 (frames, mels)."""
    samples = wave.astype(np.float64)
    emphasized = np.concatenate([samples[:1], samples[1:] - _EMPHASIS * samples[:-1]])
    padded = np.pad(emphasized, _TRANSFORM // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _TRANSFORM)[::HOP][: len(wave) // HOP]
    powers = np.abs(np.fft.rfft(frames * _window())) ** 2
    bands: Doubles = np.log(powers @ mel_filters(mels, _TRANSFORM) + _LOG_GUARD)
    normalised: Doubles = (bands - bands.mean(axis=0)) / (bands.std(axis=0, ddof=1) + _SPREAD_GUARD)
    return normalised.astype(np.float32)


def _window() -> Doubles:
    """The symmetric Hann window, with zeros on either side, (_TRANSFORM,)."""
    return np.pad(np.hanning(_WIDTH), (_TRANSFORM - _WIDTH) // 2)
