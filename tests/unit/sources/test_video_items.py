"""Videos of one file in an index: their frames are decoded from where the file lies, as if they were pictures."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from counterpoint.data.prepare.job import make_record
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.prepare.record_files import Conversation
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.text.chat import File, Medium, Message, PlainChat
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.errors import DataError
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.modalities.images.video_file import read_frames, video_timeline
from counterpoint.sources.prepared.index import TOKENIZER_NAME, Index
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.prepared.stored import Stored
from counterpoint.sources.source import load_item_or_neutral
from tests.unit.items import MakeIndex, patches_of
from tests.unit.modalities.videos import number_of, write_video

pytest.importorskip("av")

SINGLE = ImageIntake("vision", ImageConfig(max_patches=64), patch=8, merge=2)
PAIRS = replace(SINGLE, frames=2)
FILM = write_video(50)


def _prepared(out: Path, file: File, raw: Path, **options: object) -> Path:
    """An index of one conversation about a video."""
    given = PrepareOptions(**{"fps": 3, **options})  # type: ignore[arg-type]
    with IndexWriter(out) as writer:
        chat = PlainChat(train_tokenizer(["a b"], 270, writer.folder / TOKENIZER_NAME))
        turns = (Message("user", (Medium("image", (file,), is_video=True), "a")), Message("assistant", ("b",)))
        writer.add(make_record(Conversation("", "train", turns), chat, Roots(raw), given)[0])
        writer.publish()
    return out


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw" / "films").mkdir(parents=True)
    (tmp_path / "raw" / "films" / "a.mp4").write_bytes(FILM)
    (tmp_path / "raw" / "larger").write_bytes(b"before" + FILM + b"after")
    pq.write_table(pa.table({"video": pa.array([b"other", FILM], pa.binary())}), tmp_path / "raw" / "films.parquet")
    return tmp_path / "raw"


def _numbers(folder: Path) -> list[int]:
    index = Index(folder)
    (entry,) = index.items(0)
    return [number_of(picture) for picture in index.item_files(entry, slice(None))]


@pytest.mark.parametrize("place", ["folder", "range", "cell", "memory", "copy"])
def test_frames_are_read_where_the_video_lies(place: str, raw: Path, tmp_path: Path) -> None:
    files: dict[str, File] = {
        "folder": raw / "films" / "a.mp4", "copy": raw / "films" / "a.mp4", "memory": FILM,
        "range": Stored(raw / "larger", 6, len(FILM), name="a.mp4"),
        "cell": Stored(raw / "films.parquet", 1, len(FILM), 0, "video", "a.mp4"),
    }  # fmt: skip
    folder = _prepared(tmp_path / "index", files[place], raw, copy=place == "copy")
    assert _numbers(folder) == [0, 10, 20, 29, 39, 49], "six frames from the first to the last of two seconds"
    index = Index(folder)
    (entry,) = index.items(0)
    assert (entry.extent, entry.lengths, entry.pictures) == ((48, 64), (len(FILM),), 6)
    assert index.manifest.counts["videos"] == 1
    assert index.manifest.payload_bytes == (len(FILM) if place in ("memory", "copy") else 0)
    assert ("a.mp4" in index.file_names(entry)) == (place != "memory")
    assert [number_of(one) for one in index.item_files(entry, slice(2, 4))] == [20, 29]
    assert index.stores.bytes_read <= len(FILM) + 2**17


def test_an_item_of_a_video_file_is_that_of_its_frames_as_pictures(
    raw: Path, tmp_path: Path, make_index: MakeIndex
) -> None:
    folder = _prepared(tmp_path / "film", raw / "films" / "a.mp4", raw)
    stamps = video_timeline(FILM).stamps
    first, *further = read_frames(FILM, [stamps[number] for number in (0, 10, 20, 29, 39, 49)])
    record = Record([1, 5, 6], [False, True, True], "train", "", [Encoded(1, first, further=tuple(further))])
    for intake, items in ((SINGLE, 6), (PAIRS, 3), (replace(SINGLE, frames=4), 2)):
        ours = PreparedSource(folder, "train", 0, {"vision": intake}, 256)
        name = f"pictures{items}"
        pictures = PreparedSource(make_index([record], name), "train", 0, {"vision": intake}, 256)
        assert len(ours.document(0).items) == len(pictures.document(0).items) == items
        for which in range(items):
            expected = patches_of(pictures.item(0, which)).patches
            np.testing.assert_array_equal(patches_of(ours.item(0, which)).patches, expected)


def test_groups_of_a_video_with_timestamps_are_items_of_one_stored_file(raw: Path, tmp_path: Path) -> None:
    for copy in (False, True):
        out = tmp_path / f"index{copy}"
        index = Index(_prepared(out, raw / "films" / "a.mp4", raw, timestamps="qwen3-vl", copy=copy))
        entries = index.items(0)
        shown = [[number_of(picture) for picture in index.item_files(entry, slice(2))] for entry in entries]
        assert shown == [[0, 10], [20, 29], [39, 49]]
        assert len({(entry.store, entry.offset, entry.lengths) for entry in entries}) == 1
        assert index.manifest.payload_bytes == (len(FILM) if copy else 0)
        tokens, loss = index.tokens(0)
        assert [entry.position for entry in entries] == sorted({entry.position for entry in entries})
        assert int(loss.sum()) == 2
        assert len(tokens) > 3 * len("<0.2 seconds>")


@pytest.mark.parametrize("change", ["gone", "longer", "other"])
def test_a_video_that_has_changed_is_one_bad_payload_with_its_name(change: str, raw: Path, tmp_path: Path) -> None:
    folder = _prepared(tmp_path / "index", raw / "films" / "a.mp4", raw)
    source = PreparedSource(folder, "train", 0, {"vision": PAIRS}, 256)
    film = raw / "films" / "a.mp4"
    if change == "gone":
        film.unlink()
    else:
        film.write_bytes(FILM + b"0" if change == "longer" else FILM[:100] + bytes(len(FILM) - 100))
    payload, reason = load_item_or_neutral(source, 0, 1, source.document(0).items[1])
    assert not patches_of(payload).patches.any()
    assert "a.mp4" in str(reason)


def test_a_bad_video_is_refused_by_name(raw: Path, tmp_path: Path) -> None:
    (raw / "bad.mp4").write_bytes(FILM[:300])
    with pytest.raises(DataError, match=r"file .*bad\.mp4: the video cannot be decoded"):
        _prepared(tmp_path / "index", raw / "bad.mp4", raw)
    with pytest.raises(DataError, match=r"file .*a\.mp4: the video has frames of 48x64 pixels, more than the 99"):
        _prepared(tmp_path / "index", raw / "films" / "a.mp4", raw, most_pixels=99)


@pytest.mark.parametrize("options", [{"fps": 0}, {"max_frames": 0}, {"fps": float("inf")}])
def test_options_of_no_frames_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"--fps .* --max-frames"):
        PrepareOptions(**options)  # type: ignore[arg-type]


def test_a_longer_step_shows_fewer_frames(raw: Path, tmp_path: Path) -> None:
    shown = {}
    for name, options in {"1": {"fps": 1}, "most": {"max_frames": 3}, "one": {"max_frames": 1}}.items():
        shown[name] = _numbers(_prepared(tmp_path / name, raw / "films" / "a.mp4", raw, **options))
    assert shown == {"1": [0, 16, 33, 49], "most": [0, 49], "one": [0]}
    assert video_timeline(FILM).seconds[49] == Fraction(49, 25)


def test_parts_of_a_video_know_of_how_many_pictures_the_whole_is(raw: Path, tmp_path: Path) -> None:
    """A budget of pixels for a whole video is divided among all of its pictures, also where times stand between."""
    folder = _prepared(tmp_path / "out", raw / "films" / "a.mp4", raw, timestamps="qwen3-vl")
    entries = Index(folder).items(0)
    pictures = sum(len(entry.picks) for entry in entries)
    assert len(entries) > 1
    source = PreparedSource(folder, "train", 0, {"vision": PAIRS}, 512)
    assert {source.extent(0, which) for which in range(len(entries))} == {(*entries[0].extent, pictures)}
    assert source.document(0).items[0].rows_in == PAIRS.place((*entries[0].extent, pictures)).rows_in
