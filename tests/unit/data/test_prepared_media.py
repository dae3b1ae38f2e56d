"""Records that name video files and sound of other formats than WAV, from the folder to the rows of modules."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes
from counterpoint.modalities.clips.clip_file import read_clip
from counterpoint.modalities.clips.rows import ClipRows
from counterpoint.modalities.clips.spec import RATE, ClipIntake
from counterpoint.modalities.clips.windows import ClipPayload
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.prepared.index import Index
from counterpoint.sources.prepared.source import PreparedSource
from tests.unit.items import patches_of
from tests.unit.modalities.videos import number_of, write_video

pytest.importorskip("av")
soundfile = pytest.importorskip("soundfile")

VISION = ImageIntake("vision", ImageConfig(max_patches=64), patch=8, merge=2, frames=2)
AUDIO = ClipIntake("audio", mels=80, window=5, stride=2, stack=1, positions=1500, seconds=30)
TAKERS: Intakes = {"vision": VISION, "audio": AUDIO}


def _turns(question: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": "nine"}]


def _speech(seconds: float, rate: int, form: str, subtype: str | None, channels: int = 1) -> bytes:
    data = io.BytesIO()
    values = np.random.default_rng(7).uniform(-0.3, 0.3, (int(rate * seconds), channels))
    soundfile.write(data, values, rate, format=form, subtype=subtype)
    return data.getvalue()


SOUNDS = {
    "a.flac": _speech(1.5, 44_100, "FLAC", "PCM_24", 2), "b.mp3": _speech(2, 22_050, "MP3", None),
    "c.ogg": _speech(1, 48_000, "OGG", "OPUS"), "d.wav": _speech(31, 8_000, "WAV", "ULAW"),
}  # fmt: skip


def _folder(path: Path, *records: Any) -> Path:
    path.mkdir()
    (path / "films").mkdir()
    (path / "films" / "a.mp4").write_bytes(write_video(50))
    (path / "films" / "b.webm").write_bytes(write_video(30, form="webm", codec="libvpx", size=(32, 48)))
    for name, data in SOUNDS.items():
        (path / name).write_bytes(data)
    (path / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_films_and_speech_become_rows(tmp_path: Path) -> None:
    content = [{"type": "video", "video": "films/b.webm"}, {"type": "text", "text": "?"}]
    several = {"video": ["films/a.mp4", "films/b.webm"], "audio": list(SOUNDS)}
    raw = _folder(
        tmp_path / "raw",
        {"video": "films/a.mp4", "conversations": _turns("<video> What?")},
        {**several, "conversations": _turns("<audio>" * 4 + "<video>and<video>?")},
        {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "five"}]},
    )
    summary = prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))
    counts = summary.manifest.counts
    assert (counts["videos"], counts["clips"], summary.manifest.payload_bytes) == (4, 4, 0)
    source = PreparedSource(tmp_path / "out", "train", 0, TAKERS, 8192)
    assert [len(source.document(row).items) for row in range(3)] == [2, 4 + 2 + 2, 2]
    index = Index(tmp_path / "out")
    shown = [[number_of(one) for one in index.item_files(item, slice(99))] for item in index.items(0)]
    assert shown == [[0, 16, 33, 49]], "two seconds at two frames a second"
    sizes = [source.extent(row, which)[:2] for row, which in ((0, 0), (1, 6), (2, 0))]
    assert sizes == [(48, 64), (32, 48), (32, 48)]
    lengths = [source.extent(1, which)[0] for which in range(4)]
    assert lengths == [24_000, 32_000, 16_000, 31 * RATE]
    for which, data in enumerate(SOUNDS.values()):
        clip = source.item(1, which)
        assert isinstance(clip, ClipPayload)
        np.testing.assert_array_equal(clip.frames, ClipRows(AUDIO).read([data], (lengths[which],)).frames)
        assert read_clip(data, lengths[which]).std() > 0.05
    for row in range(3):
        for which, item in enumerate(source.document(row).items):
            payload = source.item(row, which)
            assert payload.rows == item.rows_in
            if item.module == "vision":
                frames = patches_of(payload).patches.reshape(-1, 3, 2, 64)
                assert frames.std(axis=(0, 1, 3)).max() < 0.01, "each frame is of one grey"


def test_the_mark_of_a_picture_stands_for_the_only_video(tmp_path: Path) -> None:
    """As in LLaVA-Video's records."""
    raw = _folder(tmp_path / "raw", {"video": "films/a.mp4", "conversations": _turns("<image>\nWhat?")})
    assert prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300)).manifest.counts["videos"] == 1


def test_prepared_bytes_do_not_depend_on_where_and_how_often(tmp_path: Path) -> None:
    record = {"video": "films/a.mp4", "audio": "a.flac", "conversations": _turns("<audio><video> What?")}
    identities = set()
    for name in ("one", "two"):
        raw = _folder(tmp_path / name, record)
        identities.add(prepare(str(raw), tmp_path / f"out-{name}", PrepareOptions(vocabulary=300)).manifest.identity)
    assert len(identities) == 1


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("c.mp4", b"nothing", r"train\.jsonl:1: file .*c\.mp4: the video's bytes are of no kind of file"),
        ("c.mp4", SOUNDS["a.flac"], r"train\.jsonl:1: file .*c\.mp4: the video has no stream of pictures"),
    ],
)
def test_a_bad_video_is_refused_with_file_and_line(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    raw = _folder(tmp_path / "raw", {"video": name, "conversations": _turns("<video>")})
    (raw / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        prepare(str(raw), tmp_path / "out", PrepareOptions(vocabulary=300))
    assert not (tmp_path / "out").exists()
