"""Pictures, clips and small indexes to test with; the emoji corpus is built for real (needs the extra `demo`)."""

import io
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from counterpoint.data.prepare.command import PrepareSummary, prepare
from counterpoint.kinds.modality import Payload
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.sources.prepared.index import TOKENIZER_NAME
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Record

MakePicture = Callable[..., bytes]
MakeClip = Callable[..., bytes]
MakeIndex = Callable[..., Path]


def patches_of(payload: Payload) -> PatchPayload:
    """A payload that is one of an image."""
    assert isinstance(payload, PatchPayload)
    return payload


@pytest.fixture(scope="session")
def make_picture() -> MakePicture:
    """Encoded noise of height x width pixels; `mode` and `file_format` as PIL names them."""

    def make(height: int, width: int, mode: str = "RGB", file_format: str = "PNG", **options: object) -> bytes:
        channels = {"RGB": 3, "RGBA": 4}[mode]
        pixels = np.random.default_rng([height, width]).integers(0, 256, (height, width, channels), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, file_format, **options)
        return data.getvalue()

    return make


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """A WAV file of 16 kHz: noise of so many samples, or these int16 values (samples, channels)."""

    def make(content: int | np.ndarray) -> bytes:
        values = content
        if isinstance(values, int):
            values = np.random.default_rng(values).integers(-9999, 9999, (values, 1)).astype("<i2")
        data = io.BytesIO()
        with wave.open(data, "wb") as file:
            file.setnchannels(values.shape[1])
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(values.tobytes())
        return data.getvalue()

    return make


@pytest.fixture
def make_index(tmp_path: Path) -> MakeIndex:
    """Publishes records under a name below the test's folder, with a stand-in for the tokenizer."""

    def make(records: Sequence[Record], name: str = "index", tokenizer: str = "{}") -> Path:
        with IndexWriter(tmp_path / name) as writer:
            (writer.folder / TOKENIZER_NAME).write_text(tokenizer)
            for record in records:
                writer.add(record)
            writer.publish()
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> PrepareSummary:
    """The demo's real corpus, about a second to build."""
    return prepare("emoji", tmp_path_factory.mktemp("corpus") / "emoji")
