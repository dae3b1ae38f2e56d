"""Normalised log-mel frames equal those of transformers' Parakeet feature extractor; clips are not filled up."""

import io
import wave
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.clips.clip_file import read_clip
from counterpoint.modalities.clips.normalised_mel import normalised_log_mel
from counterpoint.modalities.clips.rows import ClipRows
from counterpoint.modalities.clips.spec import HOP, RATE, ClipIntake
from counterpoint.modalities.clips.windows import cut_windows


def wave_of(samples: int) -> Floats:
    """A rising tone in faint noise, and silence behind it."""
    time = np.arange(samples) / RATE
    noise = np.random.default_rng(samples).standard_normal(samples)
    tone = 0.4 * np.sin(2 * np.pi * (300 + 900 * time) * time) + 0.02 * noise
    sound: Floats = (tone * (time < 0.8 * samples / RATE)).astype(np.float32)
    return sound


def wav_of(sound: Floats) -> bytes:
    """A waveform as the bytes of a WAV file of one channel."""
    data = io.BytesIO()
    with wave.open(data, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE)
        written.writeframes((sound * 2**15).astype("<i2").tobytes())
    return data.getvalue()


@pytest.fixture
def wide() -> Iterator[None]:
    """float64 where torch is told no dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def judge(mels: int) -> Any:
    """Their extractor, computing in float64 from the waveform on: in float32 faint bands differ by 1e-4."""
    transformers = pytest.importorskip("transformers", reason="transformers, the judge, is not installed")

    class Wide(transformers.ParakeetFeatureExtractor):  # type: ignore[misc, name-defined]
        def pad(self, *arguments: Any, **options: Any) -> Any:
            padded = super().pad(*arguments, **options)
            padded["input_features"] = padded["input_features"].double()
            return padded

    extractor = Wide(feature_size=mels)
    extractor.mel_filters = extractor.mel_filters.double()
    return extractor


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("samples", [2 * HOP, 1000, 16_000, 16_079])
def test_frames_are_those_of_the_judge(samples: int, mels: int) -> None:
    output = judge(mels)(wave_of(samples), sampling_rate=RATE, return_tensors="np")
    expected = output.input_features[0][output.attention_mask[0].astype(bool)]
    found = normalised_log_mel(wave_of(samples), mels)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (samples // HOP, mels)
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(("samples", "frames"), [(1, 2), (320, 2), (1279, 7), (1280, 8), (1440, 9), (16_000, 100)])
def test_a_clip_is_not_filled_up(samples: int, frames: int) -> None:
    settings = ClipIntake("audio", mels=8, window=15, stride=8, stack=1, positions=50, normalised=True)
    payload, placed = ClipRows(settings).neutral((samples,)), settings.place((samples,))
    assert len(payload.frames) == placed.rows_in == placed.rows == -(-frames // settings.stride)
    middle = settings.window // 2
    assert payload.filled[:, middle].all()
    assert payload.filled[-1, middle:].sum() == (frames - 1) % settings.stride + 1


@pytest.mark.parametrize("samples", [2800, 16_079, 16_159])
def test_frames_of_a_file_are_those_of_all_its_samples(samples: int) -> None:
    """The window of the last whole frame reaches samples that make no whole frame."""
    settings = ClipIntake("audio", mels=8, window=15, stride=8, stack=1, positions=50, normalised=True)
    # Turned around, for it ends in silence.
    data = wav_of(wave_of(samples)[::-1])
    expected = cut_windows(normalised_log_mel(read_clip(data, samples), settings.mels), settings)
    found = ClipRows(settings).read([data], (samples,))
    assert found.rows == settings.place((samples,)).rows_in
    assert np.array_equal(found.frames, expected.frames)
    assert np.array_equal(found.filled, expected.filled)
