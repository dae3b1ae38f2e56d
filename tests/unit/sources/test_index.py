import json
from collections.abc import Callable
from pathlib import Path

import pytest

from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import (
    ARROW_NAME,
    FILES_NAME,
    MANIFEST_NAME,
    PAYLOAD_NAME,
    Index,
    ItemEntry,
    Manifest,
)
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import BATCH_DOCUMENTS, Encoded, Record
from tests.unit.items import MakeIndex, MakePicture
from tests.unit.older_index import make_older


@pytest.fixture
def folder(make_index: MakeIndex, make_picture: MakePicture) -> Path:
    pictures = [make_picture(8, 16), make_picture(24, 8)]
    return make_index(
        [
            Record(
                [1, 5, 6, 2],
                [False, True, True, True],
                "train",
                "five six",
                [Encoded(0, pictures[0]), Encoded(2, pictures[1])],
            ),
            Record([1, 7, 2], [False, False, False], "held", "seven"),
        ]
    )


def test_what_is_written_is_read(folder: Path, make_picture: MakePicture) -> None:
    index = Index(folder)
    assert (index.manifest.documents, index.manifest.tokens, index.manifest.counts["images"]) == (2, 7, 2)
    assert index.manifest.splits == {"train": 1, "held": 1}
    assert index.rows_of("held").tolist() == [1]
    tokens, loss = index.tokens(0)
    assert (tokens.tolist(), loss.tolist()) == ([1, 5, 6, 2], [False, True, True, True])
    assert index.text(1) == "seven"
    first, second = index.items(0)
    assert first == ItemEntry("image", 0, (8, 16), 0, (len(make_picture(8, 16)),))
    assert (second.position, second.extent, second.offset) == (2, (24, 8), *first.lengths)
    assert index.item_files(second, slice(1)) == [make_picture(24, 8)]
    assert index.items(1) == ()


def test_many_batches_keep_their_order(make_index: MakeIndex) -> None:
    count = 2 * BATCH_DOCUMENTS + 3
    index = Index(make_index([Record([n], [True], "ab"[n % 2], str(n)) for n in range(count)]))
    assert [index.tokens(row)[0].item() for row in (0, BATCH_DOCUMENTS, count - 1)] == [
        0,
        BATCH_DOCUMENTS,
        count - 1,
    ]
    assert index.rows_of("b").tolist() == list(range(1, count, 2))


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_files_are_named_by_where_they_lie(folder: Path, count: int) -> None:
    """Whatever the lengths of lines, and between them; a name that is not known is none."""
    make_older(folder, 5)
    index = Index(folder)
    offsets = [7 * number**2 for number in range(count)]
    names = {offset: [f"{'x' * (offset % 11)}{place}.png" for place in range(1 + offset % 3)] for offset in offsets}
    lines = "".join(json.dumps([offset, *files]) + "\n" for offset, files in names.items())
    (folder / FILES_NAME).write_text(lines)
    for offset in range(offsets[-1] + 3):
        entry = ItemEntry("image", 0, (8, 16), offset, (1,))
        assert index.file_names(entry) == ", ".join(names.get(offset, []))
    (folder / FILES_NAME).write_text("")
    assert index.file_names(ItemEntry("image", 0, (8, 16), 0, (1,))) == ""


def test_an_unknown_split_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(DataError, match="no split 'test'; expected one of: held, train"):
        Index(folder).rows_of("test")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def _change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda f: f.rename(f.with_name("elsewhere")), "index.json is missing; run"),
    "no manifest": (lambda f: (f / MANIFEST_NAME).unlink(), "index.json is missing"),
    "half a manifest": (lambda f: (f / MANIFEST_NAME).write_text('{"format": '), "cannot be read"),
    "a list": (lambda f: (f / MANIFEST_NAME).write_text("[]"), "format None, version None, expected"),
    "another version": (lambda f: _change(f / MANIFEST_NAME, version=3), "version 3, expected .* version 6"),
    "an unknown key": (lambda f: _change(f / MANIFEST_NAME, colour=1), "the keys colour"),
    "another count": (lambda f: _change(f / MANIFEST_NAME, documents=3), "2 documents instead of 3"),
    "no arrow file": (lambda f: (f / ARROW_NAME).unlink(), "index.arrow is missing"),
    "half an arrow file": (lambda f: (f / ARROW_NAME).write_bytes(b"ARROW1"), "index.arrow has 6 bytes"),
    "a flipped bit": (lambda f: _flip(f / ARROW_NAME), "index.arrow is corrupt"),
    "no payload": (lambda f: (f / PAYLOAD_NAME).unlink(), "payload.bin is missing"),
    "a longer payload": (lambda f: _lengthen(f / PAYLOAD_NAME), "payload.bin has"),
}


@pytest.mark.parametrize("version", [4, 5])
def test_an_index_of_an_earlier_version_opens_and_is_the_same_dataset(
    folder: Path, version: int, make_picture: MakePicture
) -> None:
    """What is digested of it is what its file says; version 4 does not say how conversations are laid out."""
    new = Manifest.read(folder)
    items = Index(folder).items(0)
    make_older(folder, version)
    values = json.loads((folder / MANIFEST_NAME).read_text())
    index = Index(folder)
    assert (index.manifest.version, index.manifest.chat) == (version, None if version == 4 else "plain")
    assert (new.version, new.chat) == (6, "plain")
    assert index.manifest.values() == values
    assert index.items(0) == items
    assert index.item_files(items[1], slice(1)) == [make_picture(24, 8)]
    for key in ("stores_sha256", *(("chat",) if version == 4 else ())):
        (folder / MANIFEST_NAME).write_text(json.dumps({**values, key: "plain"}))
        with pytest.raises(DataError, match=f"lacks or adds the keys {key}"):
            Index(folder)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_index_is_refused(folder: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(DataError, match=message):
        Index(folder)


def test_the_same_index_may_be_written_again_and_another_may_not(make_index: MakeIndex, tmp_path: Path) -> None:
    records = [Record([1, 2], [True, True], "train", "a")]
    before = (make_index(records) / MANIFEST_NAME).stat()
    assert (make_index(records) / MANIFEST_NAME).stat().st_mtime_ns == before.st_mtime_ns
    for other in ([Record([1, 3], [True, True], "train", "a")], [*records, *records]):
        with pytest.raises(DataError, match="a different index"):
            make_index(other)
    with pytest.raises(DataError, match="a different index"):
        make_index(records, tokenizer="{ }")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="is no index"):
        make_index(records, name="notes")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "notes"]


def _write(out: Path, records: list[Record]) -> None:
    with IndexWriter(out) as writer:
        for record in records:
            writer.add(record)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        _write(tmp_path / "index", [Record([1], [True], "a", ""), Record([1], [True], "a", "", [Encoded(0, b"none")])])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        _write(tmp_path / "file" / "index", [])


def test_records_that_contradict_themselves_are_refused(tmp_path: Path, make_picture: MakePicture) -> None:
    picture = make_picture(8, 8)
    with IndexWriter(tmp_path / "index") as writer:
        for positions in ([3], [-1], [2, 1]):
            with pytest.raises(DataError, match="do not ascend"):
                writer.add(Record([1, 2], [True, True], "train", "", [Encoded(p, picture) for p in positions]))
        with pytest.raises(DataError, match="1 loss marks for 2 tokens"):
            writer.add(Record([1, 2], [True], "train", ""))
        with pytest.raises(DataError, match="cannot be read"):
            writer.add(Record([1], [True], "train", "", [Encoded(0, b"no picture")]))
