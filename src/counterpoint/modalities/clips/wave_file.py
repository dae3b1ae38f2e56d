"""WAV files of plain samples: how many there are, from the bytes that are there, and their values.

Sizes in headers are claims: a program that writes to a pipe does not know them, and a file may have been cut off.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.sound import check_rate, mix

_PCM, _FLOATS, _A_LAW, _MU_LAW, _EXTENSIBLE = 0x0001, 0x0003, 0x0006, 0x0007, 0xFFFE

_SUBFORMAT = slice(24, 40)
_ANY_SUBFORMAT = bytes.fromhex("000000001000800000aa00389b71")
"""Ends the identifier of a form in an extensible header; the form's number begins it."""

_UNKNOWN_SIZES = (0, 2**32 - 1)
"""What stands for the size of a file whose writer did not know it."""

_KINDS = (b"RIFF", b"RF64", b"BW64")
"""How a file begins; the last two are longer than 4 GiB."""

Values = Callable[[memoryview], Floats]
"""From whole samples as bytes to float32 values."""


@final
@dataclass(frozen=True, slots=True)
class WaveFile:
    """A WAV file: its `rate`, the number of `samples` of each channel, and their bytes."""

    rate: int
    samples: int
    channels: int
    values: Values
    data: memoryview

    def read(self, samples: int) -> Floats:
        """The mean of the channels of the first `samples` samples, float32, full scale 1; all if there are fewer."""
        width = len(self.data) // self.samples
        values = self.values(self.data[: min(samples, self.samples) * width])
        return mix(values.reshape(-1, self.channels))


def is_wave(data: bytes) -> bool:
    """Whether bytes begin like a WAV file."""
    return data[:4] in _KINDS and data[8:12] == b"WAVE"


def open_wave(data: bytes) -> WaveFile | None:
    """The samples of a WAV file, at least one; None if they are coded otherwise than as plain numbers.

    Raises DataError for a file that is damaged or has none.
    """
    (size,) = struct.unpack_from("<I", data, 4)
    at, form = 12, b""
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"fmt ":
            form = data[at : at + length]
            if length < 16 or len(form) < length:
                raise _unlike("what says the form of its samples is cut off")
        elif kind == b"data":
            if not form:
                raise _unlike("it does not say before its samples of what form they are")
            is_claimed = length != 0 or size not in _UNKNOWN_SIZES
            there = min(length, len(data) - at) if is_claimed else len(data) - at
            return _wave(form, memoryview(data)[at : at + there])
        at += length + length % 2
    raise _unlike("it has no samples" if form else "it does not say of what form its samples are")


def _wave(form: bytes, data: memoryview) -> WaveFile | None:
    number, channels, rate, _bytes, block, bits = struct.unpack_from("<HHIIHH", form)
    if number == _EXTENSIBLE and len(form) >= _SUBFORMAT.stop:
        subformat = form[_SUBFORMAT]
        if subformat[2:] == _ANY_SUBFORMAT:
            number = int.from_bytes(subformat[:2], "little")
    width = -(-bits // 8)
    values = _VALUES.get((number, width))
    if values is None:
        if number in (_PCM, _FLOATS):
            raise DataError(
                f"the clip has {'integers' if number == _PCM else 'floats'} of {bits} bits, expected integers of 8 to "
                "32 bits or floats of 32 or 64; convert it to FLAC or 16-bit WAV."
            )
        return None
    if not channels or block != channels * width:
        raise _unlike(f"{channels} channels of {bits} bits do not take {block} bytes")
    check_rate(rate)
    samples = len(data) // block
    if not samples:
        raise DataError("the clip has no sample, expected at least one; remove it.")
    return WaveFile(rate, samples, channels, values, data[: samples * block])


def _integers(width: int) -> Values:
    """Of integers of `width` bytes, signed unless it is one; fewer bits stand in the upper ones."""

    def values(data: memoryview) -> Floats:
        if width == 1:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
        numbers = np.frombuffer(_widened(data) if width == 3 else data, "<i2" if width == 2 else "<i4")
        return numbers.astype(np.float32) / np.float32(2 ** (8 * numbers.itemsize - 1))

    return values


def _widened(data: memoryview) -> bytes:
    """Integers of three bytes as the upper ones of four."""
    wide = np.zeros((len(data) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return wide.tobytes()


def _floats(kind: str) -> Values:
    def values(data: memoryview) -> Floats:
        with np.errstate(all="ignore"):  # What becomes infinite is refused after mixing.
            return np.frombuffer(data, kind).astype(np.float32)

    return values


def _companded(table: NDArray[np.float32]) -> Values:
    return lambda data: table[np.frombuffer(data, np.uint8)]


def _mu_law() -> NDArray[np.float32]:
    """ITU-T G.711's values of all bytes, full scale 1."""
    codes = ~np.arange(256, dtype=np.int32) & 0xFF
    sizes = (((codes & 0x0F) << 3) + 0x84 << ((codes & 0x70) >> 4)) - 0x84
    return (np.where(codes & 0x80, -sizes, sizes) / 2**15).astype(np.float32)


def _a_law() -> NDArray[np.float32]:
    """ITU-T G.711's values of all bytes, full scale 1."""
    codes = np.arange(256, dtype=np.int32) ^ 0x55
    exponents = (codes & 0x70) >> 4
    steps = ((codes & 0x0F) << 4) + 8
    sizes = np.where(exponents > 0, steps + 0x100 << np.maximum(exponents - 1, 0), steps)
    return (np.where(codes & 0x80, sizes, -sizes) / 2**15).astype(np.float32)


_VALUES: dict[tuple[int, int], Values] = {
    **{(_PCM, width): _integers(width) for width in (1, 2, 3, 4)},
    (_FLOATS, 4): _floats("<f4"),
    (_FLOATS, 8): _floats("<f8"),
    (_A_LAW, 1): _companded(_a_law()),
    (_MU_LAW, 1): _companded(_mu_law()),
}
"""By the number of a form and the bytes of a sample."""


def _unlike(reason: str) -> DataError:
    return DataError(f"the clip's bytes are no whole WAV file ({reason}); replace or convert it.")
