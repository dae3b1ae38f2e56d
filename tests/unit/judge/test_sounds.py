"""From a WAV file to what leaves an encoder: our reader and encoder beside transformers' extractor and encoder.

Their extractor computes in float32, our reader in float64, of which it gives float32. So theirs is lifted to float64,
and then its frames are ours to the last bit of float32. As it is shipped its own rounding changes them, most of all in
bands that are quiet beside loud ones: by 2.2e-5 at most in these clips.
"""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from counterpoint.config.load import load_config
from counterpoint.modalities.clips.clip_file import clip_samples
from counterpoint.modalities.clips.rows import ClipRows
from counterpoint.modalities.clips.spec import HOP, RATE, ClipIntake
from counterpoint.modalities.rows import pack_items
from counterpoint.models.chain import MAIN
from counterpoint.plan.samples import Item
from counterpoint.setup.data import intakes_of
from tests.unit.judge.judge import REASON
from tests.unit.judge.lifted import lift_casts
from tests.unit.judge.test_whisper import EQUAL, judge, our_encoder, relative
from tests.unit.report.pages import EXAMPLES

pytest.importorskip("transformers", reason=REASON)

SECONDS = 2
AS_SHIPPED = 1e-4
"""Lifting changes no more than rounding does, in numbers from -1.5 to 1.5."""

CLIPS = {
    "short": (0.7, 1, 1.0), "as long": (2.0, 1, 1.0), "long, of two channels": (2.9, 2, 1.0), "faint": (1.0, 1, 1e-4),
}  # fmt: skip
"""Seconds, channels and loudness."""


def config_of(mels: int) -> Any:
    """A small Whisper that hears two seconds."""
    model = {"layers": 2, "hidden": 24, "heads": 4, "ffn": 40, "mels": mels, "positions": 50 * SECONDS, "stack": 1}
    keys = [f"modules.audio.model.{key}={value}" for key, value in model.items()]
    return load_config(EXAMPLES / "speech.yaml", [*keys, f"modules.audio.model.audio={{seconds: {SECONDS}}}"])


def write_clip(file: Path, seconds: float, channels: int, loudness: float) -> NDArray[np.float64]:
    """Write tones that swell and fall silent, and noise; the mean of the channels, (samples,) in [-1, 1]."""
    times = np.arange(round(seconds * RATE)) / RATE
    dice = np.random.default_rng(channels)
    tones = [np.sin(2 * np.pi * (220 + 900 * times * number) * times) for number in range(1, channels + 1)]
    levels = [
        0.4 * tone * np.sin(np.pi * times / seconds) ** 4 + 0.01 * dice.standard_normal(len(times)) for tone in tones
    ]
    values = (np.stack(levels, axis=1) * (times[:, None] > 0.1) * loudness * 2**15).astype("<i2")
    with wave.open(str(file), "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(2)
        written.setframerate(RATE)
        written.writeframes(values.tobytes())
    samples: NDArray[np.float64] = values.astype(np.float64).mean(axis=1) / 2**15
    return samples


def their_frames(samples: NDArray[np.float64], mels: int, patch: pytest.MonkeyPatch | None) -> Tensor:
    """What their extractor makes of samples, (1, mels, frames); in float64 under a patch."""
    from transformers.models.whisper import feature_extraction_whisper

    extractor = feature_extraction_whisper.WhisperFeatureExtractor(feature_size=mels, chunk_length=SECONDS)
    if patch is not None:
        lift_casts(patch, feature_extraction_whisper)
        torch.set_default_dtype(torch.float64)
    try:
        # Samples of 16 bits are the same numbers in float32.
        found = extractor(samples, sampling_rate=RATE, return_tensors="np")["input_features"]
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == (np.float32 if patch is None else np.float64)
    return torch.from_numpy(found)


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("clip", CLIPS)
def test_frames_and_features_of_files_are_equal(
    clip: str, mels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, config = tmp_path / "clip.wav", config_of(mels)
    samples = write_clip(file, *CLIPS[clip])
    reader, section = intakes_of(config)["audio"], config.modules["audio"].model
    assert isinstance(reader, ClipIntake)
    data = file.read_bytes()
    payload = ClipRows(reader).read([data], (clip_samples(data),))
    middles = torch.from_numpy(payload.frames[:, section.window // 2])

    shipped = their_frames(samples, mels, None)
    theirs = their_frames(samples, mels, monkeypatch)
    assert theirs.shape == (1, mels, SECONDS * RATE // HOP)
    assert torch.equal(middles, theirs[0, :, ::2].T.to(torch.float32))
    assert 0 < (shipped - theirs).abs().max() <= AS_SHIPPED

    model = judge(monkeypatch, section)
    expected = model(theirs.to(torch.float32).double()).last_hidden_state[0]
    item = Item("audio", 0, payload.rows, payload.rows // reader.stack, None)
    batch, kept = pack_items(reader, [(item, payload)], torch.float64)
    found = our_encoder(model, section)(None, batch)[MAIN]
    assert relative(found[kept] - expected, expected) <= EQUAL
