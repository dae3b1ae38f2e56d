"""Encoded clips of any format: how long each is at the encoders' rate, and its waveform there."""

from collections.abc import Iterator
from itertools import chain

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.decoders import LIBSNDFILE, Block, by_ffmpeg, by_libsndfile
from counterpoint.modalities.clips.resample import needed_length, resample, resampled_length
from counterpoint.modalities.clips.sound import check_rate
from counterpoint.modalities.clips.spec import RATE
from counterpoint.modalities.clips.wave_file import is_wave, open_wave
from counterpoint.modalities.containers import CLIP, HEAD, container_of, unknown

_LONGEST_SECONDS = 24 * 3600


def clip_extent(data: bytes, _most_pixels: int) -> tuple[int]:
    """(samples,) of an encoded clip; see `clip_samples`."""
    return (clip_samples(data),)


def clip_samples(data: bytes) -> int:
    """The number of samples of a clip at RATE, at least one, counted and not taken from a header; raises DataError."""
    wave = open_wave(data) if is_wave(data) else None
    if wave is not None:
        return resampled_length(wave.samples, wave.rate)
    blocks = _decoded(data)
    rate, first = next(blocks)
    samples = len(first)
    for _rate, block in blocks:
        samples += len(block)
        if samples > rate * _LONGEST_SECONDS:
            raise DataError(f"the clip is longer than {_LONGEST_SECONDS // 3600} hours; cut it into shorter ones.")
    return resampled_length(samples, rate)


def read_clip(data: bytes, samples: int, most: int | None = None) -> Floats:
    """The mean of a clip's channels at RATE, float32 (samples,), of full scale 1, or its first `most` samples.

    No more is decoded than those depend on. Raises DataError if it cannot be decoded, or has not `samples` samples as
    indexed as far as it is decoded.
    """
    wanted = samples if most is None else min(samples, most)
    wave = open_wave(data) if is_wave(data) else None
    if wave is not None:
        _check(resampled_length(wave.samples, wave.rate), samples)
        return resample(wave.read(needed_length(wanted, wave.rate)), wave.rate)[:wanted]
    blocks = _decoded(data)
    rate, first = next(blocks)
    needed = None if wanted == samples else needed_length(wanted, rate)
    kept, length = [], 0
    for _rate, block in chain([(rate, first)], blocks):
        kept.append(block)
        length += len(block)
        if needed is not None and length >= needed:
            break
        if resampled_length(length, rate) > samples:
            _check(resampled_length(length, rate), samples)
    else:
        _check(resampled_length(length, rate), samples)
    return resample(np.concatenate(kept), rate)[:wanted]


def _check(found: int, samples: int) -> None:
    if found != samples:
        raise DataError(
            f"the clip has {found} samples at {RATE} a second, but the index says {samples}; prepare the dataset again."
        )


def _decoded(data: bytes) -> Iterator[Block]:
    """A clip that is no plain WAV, block by block; raises DataError also where the rate changes, or there is none."""
    kind = container_of(data[:HEAD])
    if kind is None:
        raise unknown(CLIP)
    rate = 0
    for found, block in by_libsndfile(data) if kind in LIBSNDFILE else by_ffmpeg(data):
        rate = rate or found
        check_rate(found)
        if found != rate:
            raise DataError(f"the clip changes from {rate} to {found} samples a second; convert it to one rate.")
        yield found, block
    if not rate:
        raise DataError("the clip has no sample, expected at least one; remove it.")
