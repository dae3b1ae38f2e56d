"""Readers: shards hold every row once, in order; files inside of files are where rows say; big arrays fit a window."""

import json
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from counterpoint.data.prepare.dataset_files import DatasetFiles
from counterpoint.data.prepare.hub import fetch
from counterpoint.data.prepare.readers import READERS, arrow, image_folder, json_array, json_lines, parquet, tar
from counterpoint.data.prepare.reading import Reading
from counterpoint.data.prepare.record_files import RecordFiles, conversation_of
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.prepare.shards import Row
from counterpoint.data.prepare.where import Where
from counterpoint.data.text.chat import Medium
from counterpoint.errors import DataError
from counterpoint.sources.prepared.stored import Stored
from tests.unit.data.published import from_human, of_user, picture, write_json, write_lines, write_pictures

ROWS = 25
RECORDS = [{"id": number, "text": f"\u00e4 {number}\n{'x' * (number * 7 % 40)}"} for number in range(ROWS)]


def pictures(number: int) -> list[bytes]:
    return [picture("a.png") + bytes([number, at]) for at in range(number % 3)]


def table() -> pa.Table:
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table(
        {
            "number": range(ROWS),
            "image": pa.array([picture("b.png") + bytes([number]) for number in range(ROWS)]),
            "images": pa.array(
                [[{"bytes": data, "path": None} for data in pictures(number)] for number in range(ROWS)],
                pa.list_(struct),
            ),
        }
    )


def write(kind: str, folder: Path) -> Path:
    """A file of ROWS rows that one reader takes."""
    path = folder / {"json_lines": "a.jsonl", "json_array": "a.json", "folder": "all"}.get(kind, f"a.{kind}")
    if kind == "json_lines":
        write_lines(path, RECORDS)
    elif kind == "json_array":
        path.write_text(json.dumps(RECORDS, indent=1, ensure_ascii=False), encoding="utf-8-sig")
    elif kind == "parquet":
        pq.write_table(table(), path, row_group_size=4)
    elif kind == "arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table().schema) as stream:
            stream.write_table(table(), max_chunksize=4)
    elif kind == "tar":
        for number in range(ROWS):
            (folder / f"{number:02d}.png").write_bytes(picture("a.png") + bytes([number]))
            (folder / f"{number:02d}.txt").write_text(str(number))
        with tarfile.open(path, "w") as packed:
            for number in range(ROWS):
                packed.add(folder / f"{number:02d}.png", f"in/{number:02d}.png")
                packed.add(folder / f"{number:02d}.txt", f"in/{number:02d}.txt")
    else:
        for number in range(ROWS):
            (path / f"{number % 4}").mkdir(parents=True, exist_ok=True)
            (path / f"{number % 4}" / f"{number}.png").write_bytes(picture("a.png"))
            (path / f"{number % 4}" / f"{number}.txt").write_text(str(number))
    return path


def rows(kind: str, path: Path) -> Iterator[Row]:
    for shard in READERS[kind].shards(path, "train"):
        yield from READERS[kind].rows(pickle.loads(pickle.dumps(shard)))


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a few rows, and a window of a few bytes."""
    monkeypatch.setattr(json_array, "WINDOW_BYTES", 16)
    monkeypatch.setattr(json_array, "SHARD_ELEMENTS", 3)
    monkeypatch.setattr(json_lines, "SHARD_LINES", 3)
    monkeypatch.setattr(parquet, "SHARD_ROWS", 6)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 3)
    monkeypatch.setattr(arrow, "SHARD_ROWS", 6)
    monkeypatch.setattr(arrow, "_SLICE_ROWS", 3)
    monkeypatch.setattr(tar, "SHARD_SAMPLES", 3)
    monkeypatch.setattr(image_folder, "SHARD_FILES", 3)


@pytest.mark.parametrize("kind", READERS)
def test_shards_hold_each_row_once_in_order(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = write(kind, tmp_path)
    whole = list(rows(kind, path))
    assert len(READERS[kind].shards(path, "train")) == 1
    request.getfixturevalue("_small")
    assert list(rows(kind, path)) == whole
    assert len(READERS[kind].shards(path, "train")) > 3
    assert len({row.place for row in whole}) == len(whole) == ROWS
    assert all(row.place.startswith(str(path)) for row in whole)
    if kind.startswith("json"):
        assert [row.values for row in whole] == RECORDS
    if kind == "json_array":
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        begins = [number for number, line in enumerate(lines, start=1) if line.strip() == "{"]
        assert [row.place for row in whole] == [f"{path}:{number}" for number in begins]


def stored_bytes(stored: Stored) -> bytes:
    """What lies at a place, read without the reader."""
    if stored.group < 0:
        return stored.file.read_bytes()[stored.offset : stored.offset + stored.length]
    group = pq.ParquetFile(stored.file).read_row_group(stored.group).to_pylist()
    name, dot, at = stored.column.partition(".")
    value: Any = group[stored.offset][name]
    value = value[int(at)] if dot else value
    return bytes(value["bytes"] if isinstance(value, dict) else value)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("kind", ["parquet", "arrow", "tar"])
def test_files_lie_where_rows_say(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    for number, (_place, values) in enumerate(rows(kind, path)):
        assert isinstance(values, dict)
        expected = {"image": picture("a.png" if kind == "tar" else "b.png") + bytes([number])}
        held = {"image": values["image"]}
        if kind != "tar":
            held |= {str(at): one for at, one in enumerate(values["images"])}
            expected |= {str(at): data for at, data in enumerate(pictures(number))}
        assert all(isinstance(one, Stored) for one in held.values())
        assert {name: stored_bytes(one) for name, one in held.items()} == expected
        assert {len(data) for data in expected.values()} == {one.length for one in held.values()}
        in_memory = {one.data for one in held.values()}
        assert in_memory == ({None} if kind != "parquet" else set(expected.values()))


def test_arrow_that_is_compressed_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table().schema, options=options) as written:
        written.write_table(table())
    found = [row.values["image"] for row in rows("arrow", path)]  # type: ignore[index]
    assert found == [picture("b.png") + bytes([number]) for number in range(ROWS)]


@pytest.mark.parametrize("text", ["[1, 23, 4.5e3, true, null]", '["a", "\\u00e4"]', "[\n[1],\n[2]\n]", "[{}]"])
def test_a_value_may_end_where_the_window_does(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text(text)
    for chunk in range(1, 12):
        monkeypatch.setattr(json_array, "WINDOW_BYTES", chunk)
        assert [row.values for row in rows("json_array", tmp_path / "a.json")] == json.loads(text)


def test_only_columns_that_are_read_are_loaded(tmp_path: Path) -> None:
    turns = pa.array([from_human("x")] * 3)
    pq.write_table(pa.table({"conversations": turns, "score": [1, 2, 3], "note": ["a"] * 3}), tmp_path / "a.parquet")
    files = RecordFiles.of(tmp_path)
    (shard,) = files.shards()
    assert shard.columns == ("conversations",)
    assert files.remarks == ("column 'note' of 1 files: not read", "column 'score' of 1 files: not read")
    (row, *_rows) = READERS["parquet"].rows(shard)
    assert row.values == {"conversations": from_human("x")}
    (every, *_rows) = READERS["parquet"].rows(replace(shard, columns=()))
    assert isinstance(every.values, dict)
    assert set(every.values) == {"conversations", "score", "note"}


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_records_may_name_files_in_archives(suffix: str, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in")
    archive = tmp_path / f"pictures.{suffix}"
    if suffix == "tar":
        with tarfile.open(archive, "w") as packed:
            packed.add(tmp_path / "in", "./in")
    else:
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(tmp_path / "in" / "a.png", "in/a.png")
            zipped.write(tmp_path / "in" / "b.png", "in/b.png", zipfile.ZIP_DEFLATED)
    roots = Roots(tmp_path / "in", (archive,))
    found = roots.find("in/a.png", "image")
    assert isinstance(found, Stored)
    assert stored_bytes(found) == picture("a.png")
    assert roots.find("b.png", "image") == tmp_path / "in" / "b.png"
    with pytest.raises(DataError, match=r"missing in .*pictures"):
        roots.find("c.png", "image")
    if suffix == "zip":
        with pytest.raises(DataError, match=r"is compressed in .*unzip"):
            roots.find("in/b.png", "image")


def media(folder: Path) -> list[tuple[str, Medium]]:
    """The media of the first conversation of a folder, each with the text before it."""
    files = RecordFiles.of(folder)
    (shard, *_shards) = files.shards()
    row = next(READERS[shard.reader].rows(shard))
    conversation = conversation_of(row, shard, Roots(folder, files.dataset.roots), Reading())
    assert conversation is not None
    found, text = [], ""
    for part in (part for message in conversation.messages for part in message.parts):
        if isinstance(part, str):
            text += part
        else:
            found.append((text, part))
    return found


VIDEO_RECORDS = {
    "LLaVA-Video": {"id": 1, "video": "in/a.mp4", "data_source": "x", "conversations": from_human("Look: <image>?")},
    "LLaMA-Factory": {"videos": ["in/a.mp4"], "messages": of_user("Look: <video>What?")},
    "Nemotron": {"messages": of_user([{"type": "text", "text": "Look: "}, {
        "type": "video", "video": "in/a.mp4", "metadata": {"video_duration": 1.5, "video_num_frames": 3}}])},
}  # fmt: skip


@pytest.mark.parametrize("name", VIDEO_RECORDS)
def test_a_video_file_stands_at_its_mark(name: str, tmp_path: Path) -> None:
    (tmp_path / "cap" / "in").mkdir(parents=True)
    (tmp_path / "cap" / "in" / "a.mp4").write_bytes(b"video")
    write_json(tmp_path / "cap" / "train.json", [VIDEO_RECORDS[name]])
    assert media(tmp_path) == [("Look: ", Medium("image", (tmp_path / "cap" / "in" / "a.mp4",), is_video=True))]


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["a.jsonl", "b.json"], {"a.jsonl": "a", "b.json": "b"}),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
         {"train-00000-of-00002.parquet": "train", "train-00001-of-00002.parquet": "train",
          "test-00000-of-00001.parquet": "test"}),
        (["train/0000.parquet", "validation/0000.parquet"], {"train/0000.parquet": "train",
                                                            "validation/0000.parquet": "validation"}),
        (["00000.tar", "00001.tar"], {"00000.tar": "train", "00001.tar": "train"}),
        (["cc3m-train-0000.tar", "cc3m-val-0000.tar"], {"cc3m-train-0000.tar": "train", "cc3m-val-0000.tar": "val"}),
        (["default/train/0000.parquet", "default/test/0000.parquet"], {"train/0000.parquet": "train",
                                                                      "test/0000.parquet": "test"}),
        (["records.jsonl", "media.tar"], {"records.jsonl": "records"}),
        (["only/part-3.parquet"], {"part-3.parquet": "train"}),
        (["test/part-00000-of-00001.parquet"], {"part-00000-of-00001.parquet": "test"}),
    ],
)  # fmt: skip
def test_splits_are_named_as_people_name_them(files: list[str], splits: dict[str, str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("[]")
    found = {
        file.file.as_posix().removeprefix(f"{tmp_path.as_posix()}/"): file.split
        for file in DatasetFiles.of(tmp_path).files
    }
    assert len(found) == len(splits)
    for end, split in splits.items():
        assert [one for name, one in found.items() if name.endswith(end)] == [split]


def test_a_dataset_of_the_hub_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"hf download --repo-type dataset owner/name --local-dir name"):
        fetch("hf://datasets/owner/name", ["a[b]"])
    for source in ("hf://models/a/b", "hf://datasets/a", "hf://datasets/../x", "hf://datasets/a/b/c"):
        with pytest.raises(DataError, match=r"is no dataset of the hub|cannot be fetched"):
            fetch(source)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_condition_may_name_a_column_that_nothing_else_reads(kind: str, tmp_path: Path) -> None:
    records = [{"conversations": from_human("x"), "score": score} for score in (1, 3)]
    if kind == "jsonl":
        write_lines(tmp_path / "a.jsonl", records)
    else:
        pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    reading = Reading(Where("score > 2"))
    files = RecordFiles.of(tmp_path, reading=reading)
    (shard,) = files.shards()
    found = [conversation_of(row, shard, Roots(tmp_path), reading) for row in READERS[shard.reader].rows(shard)]
    assert [one is None for one in found] == [True, False]
    assert files.remarks == ()
