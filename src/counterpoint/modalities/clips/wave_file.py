"""WAV files of 16-bit samples: how long a clip is, from the bytes that are there, and its waveform.

Sizes in headers are claims: a program that writes to a pipe does not know them, and a file may have been cut off.
"""

import struct
from typing import NamedTuple

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.spec import RATE

_SAMPLE_BYTES = 2
_LOUDEST = 2**15
_REMEDY = "convert it, as by `ffmpeg -i IN -ar 16000 -c:a pcm_s16le OUT.wav`"
_PCM, _EXTENSIBLE = 0x0001, 0xFFFE
_NAMES = {0x0003: "floats", 0x0006: "A-law", 0x0007: "mu-law", 0x0011: "ADPCM", 0x0055: "MP3"}
"""What samples are called that are not plain integers, by the number of their form."""

_SUBFORMAT = slice(24, 40)
_ANY_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
"""Ends the identifier of a form in an extensible header; the form's number begins it."""

_UNKNOWN_SIZES = (0, 2**32 - 1)
"""What stands for the size of a file whose writer did not know it."""


class _Wave(NamedTuple):
    channels: int
    data: memoryview
    """Whole samples of all channels."""


def clip_extent(data: bytes, _most_pixels: int) -> tuple[int]:
    """(samples,) of an encoded clip; see `clip_samples`."""
    return (clip_samples(data),)


def clip_samples(data: bytes) -> int:
    """Samples of each channel of an encoded clip, at least one; raises DataError unless `read_wave` can read them."""
    wave = _parse(data)
    return len(wave.data) // (wave.channels * _SAMPLE_BYTES)


def read_wave(data: bytes, samples: int) -> Floats:
    """The mean of a clip's channels, (samples,) in [-1, 1]; raises DataError if it is not as indexed."""
    wave = _parse(data)
    found = len(wave.data) // (wave.channels * _SAMPLE_BYTES)
    if found != samples:
        raise DataError(f"the clip has {found} samples, but the index says {samples}; prepare the dataset again.")
    values = np.frombuffer(wave.data, dtype="<i2").reshape(samples, wave.channels)
    mean: Floats = (values.astype(np.float32) / _LOUDEST).mean(axis=1)
    return mean


def _parse(data: bytes) -> _Wave:
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise _unlike("it does not begin as one")
    (size,) = struct.unpack_from("<I", data, 4)
    at, channels = 12, None
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"fmt ":
            channels = _channels(data[at : at + length], length)
        elif kind == b"data":
            if channels is None:
                raise _unlike("it does not say before its samples of what form they are")
            is_claimed = length != 0 or size not in _UNKNOWN_SIZES
            there = min(length, len(data) - at) if is_claimed else len(data) - at
            there -= there % (channels * _SAMPLE_BYTES)
            if not there:
                raise DataError("the clip has no sample, expected at least one; remove it.")
            return _Wave(channels, memoryview(data)[at : at + there])
        at += length + length % 2
    raise _unlike("it has no samples" if channels is not None else "it does not say of what form its samples are")


def _channels(form: bytes, length: int) -> int:
    """The channels of a form that can be read."""
    if length < 16 or len(form) < length:
        raise _unlike("what says the form of its samples is cut off")
    number, channels, rate, _bytes, block, bits = struct.unpack_from("<HHIIHH", form)
    if number == _EXTENSIBLE and len(form) >= _SUBFORMAT.stop:
        subformat = form[_SUBFORMAT]
        if subformat[2:] == _ANY_SUBFORMAT:
            number = int.from_bytes(subformat[:2], "little")
    if number != _PCM:
        name = _NAMES.get(number, f"form {number}")
        raise DataError(f"the clip has samples that are {name}, expected 16-bit integers; {_REMEDY}.")
    if bits != 8 * _SAMPLE_BYTES:
        raise DataError(f"the clip has samples of {bits} bits, expected 16; {_REMEDY}.")
    if rate != RATE:
        raise DataError(f"the clip has {rate} samples a second, expected {RATE}; {_REMEDY}.")
    if not channels or block != channels * _SAMPLE_BYTES:
        raise _unlike(f"{channels} channels of 16 bits do not take {block} bytes")
    return int(channels)


def _unlike(reason: str) -> DataError:
    return DataError(f"the clip's bytes are no WAV file of plain samples ({reason}), expected 16-bit PCM; {_REMEDY}.")
