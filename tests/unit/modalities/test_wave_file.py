"""Clips whose headers claim other than what is there, and clips of other forms."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import DataError
from counterpoint.modalities.clips.wave_file import clip_samples, read_wave

VALUES = np.arange(-50, 50, dtype="<i2") * 300
PCM = bytes.fromhex("0100000000001000800000aa00389b71")
FLOAT = bytes.fromhex("0300000000001000800000aa00389b71")


def _chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def _form(number: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, more: bytes = b"") -> bytes:
    block = channels * bits // 8
    return _chunk(b"fmt ", struct.pack("<HHIIHH", number, channels, rate, rate * block, block, bits) + more)


def _extensible(subformat: bytes) -> bytes:
    return _form(0xFFFE, more=struct.pack("<HHI", 22, 16, 4) + subformat)


def _wave(*chunks: bytes, size: int | None = None) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


SOUND = VALUES.tobytes()
READ = {
    "plain": _wave(_form(), _chunk(b"data", SOUND)),
    "streamed": _wave(_form(), _chunk(b"data", SOUND, 2**32 - 1), size=2**32 - 1),
    "streamed in another way": _wave(_form(), _chunk(b"data", SOUND, 0), size=0),
    "a size beyond the file": _wave(_form(), _chunk(b"data", SOUND, 2**31)),
    "extensible": _wave(_extensible(PCM), _chunk(b"data", SOUND)),
    "chunks around it": _wave(_chunk(b"LIST", b"odd"), _form(), _chunk(b"fact", b"1234"), _chunk(b"data", SOUND),
                              _chunk(b"LIST", b"more")),
}  # fmt: skip


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_the_samples_that_are_there_are_read(data: bytes) -> None:
    assert clip_samples(data) == len(VALUES)
    np.testing.assert_array_equal(read_wave(data, len(VALUES)), VALUES.astype(np.float32) / 2**15)


@given(bytes_left=st.integers(1, len(SOUND)), channels=st.integers(1, 3))
def test_a_clip_that_was_cut_off_has_its_whole_samples(bytes_left: int, channels: int) -> None:
    data = _wave(_form(channels=channels), _chunk(b"data", SOUND))
    cut = data[: len(data) - len(SOUND) + bytes_left]
    whole = bytes_left // (2 * channels)
    if not whole:
        with pytest.raises(DataError, match="has no sample"):
            clip_samples(cut)
        return
    assert clip_samples(cut) == whole
    expected = VALUES[: whole * channels].reshape(whole, channels).astype(np.float32).mean(axis=1) / 2**15
    np.testing.assert_allclose(read_wave(cut, whole), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_wave(_form(), _chunk(b"data", b"")), "has no sample, expected at least one; remove it"),
        (_wave(_form(3, bits=32), _chunk(b"data", SOUND)), "that are floats, expected 16-bit integers; convert"),
        (_wave(_extensible(FLOAT), _chunk(b"data", SOUND)), "samples that are floats, expected 16-bit"),
        (_wave(_extensible(bytes(16)), _chunk(b"data", SOUND)), "samples that are form 65534, expected"),
        (_wave(_form(7, bits=8), _chunk(b"data", SOUND)), "samples that are mu-law"),
        (_wave(_form(bits=24), _chunk(b"data", SOUND)), "samples of 24 bits, expected 16"),
        (_wave(_form(rate=8000), _chunk(b"data", SOUND)), "8000 samples a second, expected 16000; convert"),
        (_wave(_form(channels=0), _chunk(b"data", SOUND)), "0 channels of 16 bits do not take 0 bytes"),
        (_wave(_chunk(b"data", SOUND), _form()), "before its samples of what form"),
        (_wave(_form()), "it has no samples"),
        (_wave(_chunk(b"fmt ", b"12")), "is cut off"),
    ],
)  # fmt: skip
def test_other_forms_are_refused_by_name(data: bytes, message: str) -> None:
    for read in (clip_samples, lambda data: read_wave(data, 1)):
        with pytest.raises(DataError, match=message):
            read(data)


@settings(max_examples=200)
@given(name=st.sampled_from(list(READ)), at=st.integers(0, 60), byte=st.integers(0, 255), cut=st.booleans())
def test_damaged_bytes_are_a_clip_or_a_data_error(name: str, at: int, byte: int, cut: bool) -> None:
    data = bytearray(READ[name])
    if cut:
        del data[at:]
    else:
        data[at] = byte
    try:
        samples = clip_samples(bytes(data))
    except DataError:
        return
    assert len(read_wave(bytes(data), samples)) == samples
