"""Clips: Whisper's frames, WAV files, and how many rows of which windows a clip becomes."""

import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.clip_file import clip_samples, read_clip
from counterpoint.modalities.clips.mel import log_mel
from counterpoint.modalities.clips.normalised_mel import normalised_log_mel
from counterpoint.modalities.clips.rows import ClipRows
from counterpoint.modalities.clips.spec import HOP, RATE, ClipIntake
from counterpoint.modalities.clips.windows import cut_windows
from tests.unit.items import MakeClip

WHISPER = ClipIntake("audio", mels=80, window=5, stride=2, stack=1, positions=1500)
STACKED = ClipIntake("audio", mels=8, window=5, stride=2, stack=3, positions=20)


def noise(samples: int) -> Floats:
    generator = np.random.default_rng(samples)
    loud = np.linspace(0.0, 1.0, samples)
    return (generator.standard_normal(samples) * loud * 0.2).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [320, 1600, 16_000, 51_200])
def test_frames_are_those_of_whisper(mels: int, samples: int) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers, the judge, is not installed")
    judge = transformers.WhisperFeatureExtractor(feature_size=mels)
    clip = noise(samples)
    native = judge._np_extract_fbank_features(clip[None], "cpu")[0].T
    assert np.abs(log_mel(clip, mels) - native).max() <= 1e-5
    whole = judge(clip, sampling_rate=RATE, return_tensors="np")["input_features"][0].T
    padded = log_mel(np.concatenate([clip, np.zeros(30 * RATE - samples, np.float32)]), mels)
    assert padded.shape == whole.shape == (3000, mels)
    assert np.abs(padded - whole).max() <= 1e-5


def test_thirty_seconds_are_rows_as_whisper_was_trained(make_clip: MakeClip) -> None:
    fixed = ClipIntake("audio", mels=80, window=5, stride=2, stack=1, positions=1500, seconds=30)
    short, long = make_clip(1000), make_clip(31 * RATE)
    assert fixed.place((1000,)).rows_in == fixed.place((31 * RATE,)).rows_in == 1500
    rows = ClipRows(fixed)
    assert rows.read([short], (1000,)).rows == rows.read([long], (31 * RATE,)).rows == 1500
    middle = rows.read([long], (31 * RATE,)).frames[:, 2]
    assert np.array_equal(middle, log_mel(read_clip(long, 31 * RATE)[: 30 * RATE], 80)[::2])


@settings(deadline=None, max_examples=60)
@given(
    samples=st.integers(1, 6400),
    stack=st.integers(1, 4),
    window=st.sampled_from([5, 15]),
    stride=st.sampled_from([2, 8]),
)
def test_rows_are_whole_stacks_and_windows_are_of_the_clip(samples: int, stack: int, window: int, stride: int) -> None:
    taker = ClipIntake("audio", 4, window, stride, stack, positions=10**6)
    placed = taker.place((samples,))
    frames = log_mel_like(placed.rows_in * stride)
    payload = cut_windows(frames, taker)
    assert placed.rows_in == placed.rows * stack
    assert (placed.rows_in - stack) * stride * HOP < samples <= placed.rows_in * stride * HOP
    assert payload.rows == placed.rows_in == ClipRows(taker).neutral((samples,)).rows
    for row in {0, placed.rows_in // 2, placed.rows_in - 1}:
        for tap in range(window):
            frame = row * stride + tap - window // 2
            assert payload.filled[row, tap] == (0 <= frame < len(frames))
            expected = frames[frame] if payload.filled[row, tap] else np.zeros(4)
            assert np.array_equal(payload.frames[row, tap], expected)
    assert payload.positions.tolist() == list(range(placed.rows_in))


def log_mel_like(frames: int) -> Floats:
    return np.random.default_rng(frames).random((frames, 4), dtype=np.float32) + 1


def test_the_longest_clip_has_the_rows_that_a_module_takes() -> None:
    assert STACKED.place((STACKED.most_samples,)).rows_in == 18
    assert STACKED.fits((STACKED.most_samples,))
    assert not STACKED.fits((STACKED.most_samples + 1,))


def test_silence_that_fills_a_clip_up_is_heard_by_a_conformer(make_clip: MakeClip) -> None:
    """With seconds, frames of silence are there, and all of them are normalised together."""
    own = ClipIntake("audio", mels=80, window=15, stride=8, stack=1, positions=100, normalised=True)
    fixed, clip = replace(own, seconds=1), make_clip(RATE // 2)
    assert (own.place((RATE // 2,)).rows_in, fixed.place((RATE // 2,)).rows_in) == (7, 13)
    alone, filled = (ClipRows(one).read([clip], (RATE // 2,)) for one in (own, fixed))
    silence = np.zeros(RATE // 2, dtype=np.float32)
    expected = normalised_log_mel(np.concatenate([read_clip(clip, RATE // 2), silence]), 80)
    assert np.array_equal(filled.frames[:, 7], expected[::8])
    assert filled.filled[7:].any()
    assert not np.allclose(alone.frames[:6, 7], filled.frames[:6, 7], atol=0.1)


def test_a_wave_is_read_and_channels_are_averaged(make_clip: MakeClip) -> None:
    values = np.array([[0, 2**14], [-(2**15), -(2**15)], [2**15 - 1, 1]], dtype="<i2")
    data = make_clip(values)
    assert clip_samples(data) == 3
    assert read_clip(data, 3).tolist() == [0.25, -1.0, 0.5]


@pytest.mark.parametrize("data", [b"", b"RIFF", b"no clip at all", b"RIFF" + struct.pack("<I", 4) + b"WAVE"])
def test_bytes_that_are_no_clip_are_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"no whole WAV file|of no kind of file that is read"):
        clip_samples(data)


def test_a_clip_of_another_length_than_indexed_is_refused(make_clip: MakeClip) -> None:
    data = make_clip(400)
    with pytest.raises(DataError, match="has 400 samples at 16000 a second, but the index says 401; prepare"):
        read_clip(data, 401)
    with pytest.raises(DataError, match="has 350 samples at 16000 a second, but the index says 400; prepare"):
        read_clip(data[:-100], 400)
    with pytest.raises(DataError, match="has 349 samples at 16000 a second, but the index says 400; prepare"):
        read_clip(data[:-101], 400)


@pytest.mark.parametrize("place", [16, 17, 18, 19])
def test_a_damaged_header_is_refused_with_a_sentence(make_clip: MakeClip, place: int) -> None:
    data = bytearray(make_clip(400))
    data[place] = 255
    with pytest.raises(DataError, match="no whole WAV file"):
        clip_samples(bytes(data))
