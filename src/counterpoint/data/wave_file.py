"""WAV files of 16-bit samples: how long a clip is, from its header, and its waveform."""

import io
import struct
import wave

import numpy as np

from counterpoint.data.mel import RATE
from counterpoint.data.payload import Floats
from counterpoint.errors import DataError

_SAMPLE_BYTES = 2
_LOUDEST = 2**15
_REMEDY = "convert it, as by `ffmpeg -i IN -ar 16000 -c:a pcm_s16le OUT.wav`"
UNREADABLE = (wave.Error, EOFError, struct.error, OSError, ValueError, RuntimeError)
"""What the standard library raises for bytes that are no WAV file of plain samples."""


def clip_samples(data: bytes) -> int:
    """Samples of each channel of an encoded clip, at least one; raises DataError unless `read_wave` can read them."""
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate, width, samples = file.getframerate(), file.getsampwidth(), file.getnframes()
    except UNREADABLE as error:
        raise DataError(
            f"the clip's bytes are no WAV file of plain samples ({error}), expected 16-bit PCM; {_REMEDY}."
        ) from error
    if rate != RATE:
        raise DataError(f"the clip has {rate} samples a second, expected {RATE}; {_REMEDY}.")
    if width != _SAMPLE_BYTES:
        raise DataError(f"the clip has samples of {8 * width} bits, expected 16; {_REMEDY}.")
    if samples < 1:
        raise DataError("the clip has no sample, expected at least one; remove it.")
    return int(samples)


def read_wave(data: bytes, samples: int) -> Floats:
    """The mean of a clip's channels, (samples,) in [-1, 1]; raises DataError if it is not as indexed."""
    found = clip_samples(data)
    with wave.open(io.BytesIO(data)) as file:
        channels = file.getnchannels()
        frames = file.readframes(found)
    # A file that was cut off may end within a sample; the number of whole ones then says so.
    values = np.frombuffer(frames[: len(frames) // _SAMPLE_BYTES * _SAMPLE_BYTES], dtype="<i2")
    if found != samples or len(values) != samples * channels:
        raise DataError(
            f"the clip has {len(values) // channels} samples, but the index says {samples}; prepare the dataset again."
        )
    mean: Floats = (values.reshape(samples, channels).astype(np.float32) / _LOUDEST).mean(axis=1)
    return mean
