"""WAV files whose headers claim other than what is there, and of every form of samples."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import DataError
from counterpoint.modalities.clips.clip_file import clip_samples, read_clip

VALUES = np.arange(-50, 50, dtype="<i2") * 300
PCM = bytes.fromhex("0100000000001000800000aa00389b71")
FLOAT = bytes.fromhex("0300000000001000800000aa00389b71")


def _chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def _form(
    number: int = 1, channels: int = 1, rate: int = 16_000, bits: int = 16, more: bytes = b"", block: int | None = None
) -> bytes:
    block = channels * bits // 8 if block is None else block
    return _chunk(b"fmt ", struct.pack("<HHIIHH", number, channels, rate, rate * block, block, bits) + more)


def _extensible(subformat: bytes, bits: int = 16) -> bytes:
    return _form(0xFFFE, bits=bits, more=struct.pack("<HHI", 22, 16, 4) + subformat)


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
    np.testing.assert_array_equal(read_clip(data, len(VALUES)), VALUES.astype(np.float32) / 2**15)


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
    np.testing.assert_allclose(read_clip(cut, whole), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_wave(_form(), _chunk(b"data", b"")), "has no sample, expected at least one; remove it"),
        (_wave(_form(3, bits=16), _chunk(b"data", SOUND)), "floats of 16 bits, expected integers of 8 to 32 bits"),
        (_wave(_form(bits=64), _chunk(b"data", SOUND)), "integers of 64 bits, expected integers of 8 to 32 bits"),
        (_wave(_form(3, bits=32), _chunk(b"data", struct.pack("<f", float("nan")))), "infinite or no numbers"),
        (_wave(_form(3, bits=64), _chunk(b"data", struct.pack("<d", 1e300))), "infinite or no numbers"),
        (_wave(_form(rate=999), _chunk(b"data", SOUND)), "999 samples a second, expected 1000 to 768000; correct"),
        (_wave(_form(channels=0), _chunk(b"data", SOUND)), "0 channels of 16 bits do not take 0 bytes"),
        (_wave(_chunk(b"data", SOUND), _form()), "before its samples of what form"),
        (_wave(_form()), "it has no samples"),
        (_wave(_chunk(b"fmt ", b"12")), "is cut off"),
    ],
)  # fmt: skip
def test_other_forms_are_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_clip(data, clip_samples(data))


FORMS = {
    "8 bits": (_form(bits=8), np.array([0, 64, 128, 255], np.uint8).tobytes(), [-1, -0.5, 0, 127 / 128]),
    "16 bits": (_form(), struct.pack("<4h", -(2**15), 2**14, 0, 1), [-1, 0.5, 0, 2**-15]),
    "24 bits": (_form(bits=24), bytes.fromhex("000080 000040 ffffff 010000"), [-1, 0.5, -(2**-23), 2**-23]),
    "20 of 24 bits": (_form(bits=20, block=3), bytes.fromhex("000080 000040 f0ffff 100000"),
                      [-1, 0.5, -(2**-19), 2**-19]),
    "32 bits": (_form(bits=32), struct.pack("<4i", -(2**31), 2**30, 0, 2**8), [-1, 0.5, 0, 2**-23]),
    "floats": (_form(3, bits=32), struct.pack("<4f", -1, 0.5, 0, 1.5), [-1, 0.5, 0, 1.5]),
    "doubles": (_form(3, bits=64), struct.pack("<4d", -1, 0.5, 0, 1.5), [-1, 0.5, 0, 1.5]),
    # ITU-T G.711, tables 1 and 2: the ends and the middle of both scales.
    "mu-law": (_form(7, bits=8), bytes([0x00, 0x80, 0xFF, 0x7F]), [-32124 / 2**15, 32124 / 2**15, 0, 0]),
    "A-law": (_form(6, bits=8), bytes([0x2A, 0xAA, 0xD5, 0x55]), [-63 / 64, 63 / 64, 2**-12, -(2**-12)]),
    "extensible floats": (_extensible(FLOAT, 32), struct.pack("<4f", -1, 0.5, 0, 1.5), [-1, 0.5, 0, 1.5]),
}  # fmt: skip


@pytest.mark.parametrize(("form", "sound", "values"), FORMS.values(), ids=FORMS)
def test_every_form_of_samples_has_its_values(form: bytes, sound: bytes, values: list[float]) -> None:
    data = _wave(form, _chunk(b"data", sound))
    assert clip_samples(data) == 4
    assert read_clip(data, 4).tolist() == np.array(values, np.float32).tolist()


@pytest.mark.parametrize("form", FORMS)
def test_the_values_are_those_of_libsndfile(form: str) -> None:
    soundfile = pytest.importorskip("soundfile")
    header, _sound, _values = FORMS[form]
    sound = np.random.default_rng(0).integers(0, 256, 240, np.uint8)
    if "float" in form or "double" in form:
        sound = np.linspace(-1, 1, 30, dtype="<f8" if form == "doubles" else "<f4").view(np.uint8)
    data = _wave(header, _chunk(b"data", sound.tobytes()))
    values, _rate = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_array_equal(read_clip(data, clip_samples(data)), values)


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
    assert len(read_clip(bytes(data), samples)) == samples
