"""Payload where it lies: files below folders, ranges of bytes, cells of parquet files; read, counted, found changed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from counterpoint.errors import DataError
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.sources.prepared.document_blocks import MOST_LOOSE, document_blocks
from counterpoint.sources.prepared.index import Index
from counterpoint.sources.prepared.part import Encoded, Record
from counterpoint.sources.prepared.row_groups import RowGroups
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.sources.prepared.stores import FILE, FOLDER, PARQUET, STORES_NAME, Location
from counterpoint.sources.source import load_item_or_neutral
from tests.unit.items import MakeIndex, MakePicture

TAKER = {"vision": ImageIntake("vision", ImageConfig(size=8, max_patches=4), patch=4)}
ROWS, GROUP_ROWS = 24, 5


def _record(*items: Encoded, split: str = "train") -> Record:
    return Record([1, 2], [True, True], split, "", items)


@pytest.fixture
def pictures(make_picture: MakePicture) -> list[bytes]:
    return [make_picture(4, 4 + 4 * (number % 2), compress_level=number % 10) for number in range(ROWS)]


@pytest.fixture
def parquet(tmp_path: Path, pictures: list[bytes]) -> Path:
    """Rows with an image as `datasets` writes it, and with the same one in a list behind another."""
    path = tmp_path / "data" / "train.parquet"
    path.parent.mkdir()
    cells = [{"bytes": data, "path": None} for data in pictures]
    lists = [[cells[0], cell] for cell in cells]
    table = pa.table({"id": range(ROWS), "image": cells, "images": lists, "plain": pictures})
    pq.write_table(table, path, row_group_size=GROUP_ROWS)
    return path


def _cell(parquet: Path, data: bytes, row: int, column: str) -> Encoded:
    location = Location(PARQUET, parquet, row % GROUP_ROWS, row // GROUP_ROWS, column)
    return Encoded(0, data, location=location, names=(f"row {row}",))


@pytest.fixture
def mixed(tmp_path: Path, parquet: Path, pictures: list[bytes], make_index: MakeIndex) -> Path:
    """One document for each way in which an item can lie somewhere."""
    loose = tmp_path / "loose" / "inner"
    loose.mkdir(parents=True)
    (loose / "a.png").write_bytes(pictures[0])
    (loose / "b.png").write_bytes(pictures[2])
    (tmp_path / "all.tar").write_bytes(b"head" + pictures[1] + pictures[3] + b"tail")
    folder, tar = Location(FOLDER, loose.parent), Location(FILE, tmp_path / "all.tar", 4)
    return make_index([
        _record(Encoded(0, pictures[5], names=("copied.png",))),
        _record(Encoded(0, pictures[0], location=folder, names=("inner/a.png",))),
        _record(Encoded(0, pictures[0], "image", (pictures[2],), ("inner/a.png", "inner/b.png"), folder)),
        _record(Encoded(0, pictures[1], "image", (pictures[3],), ("1.png", "3.png"), tar)),
        _record(_cell(parquet, pictures[7], 7, "image")),
        _record(_cell(parquet, pictures[8], 8, "images.1")),
        _record(_cell(parquet, pictures[9], 9, "plain")),
    ])  # fmt: skip


def test_items_are_read_where_they_lie(mixed: Path, tmp_path: Path, pictures: list[bytes]) -> None:
    index = Index(mixed)
    read = [index.item_files(index.items(row)[0], slice(None)) for row in range(7)]
    assert read == [[pictures[n] for n in numbers] for numbers in ((5,), (0,), (0, 2), (1, 3), (7,), (8,), (9,))]
    assert index.item_files(index.items(2)[0], slice(1, 2)) == [pictures[2]]
    assert index.item_files(index.items(3)[0], slice(1, 2)) == [pictures[3]]
    assert index.manifest.payload_bytes == len(pictures[5])
    names = [index.file_names(index.items(row)[0]) for row in range(7)]
    loose, tar, parquet = tmp_path / "loose" / "inner", tmp_path / "all.tar", tmp_path / "data" / "train.parquet"
    assert names == [
        "copied.png", f"{loose}/a.png", f"{loose}/a.png, {loose}/b.png", f"1.png in {tar}, 3.png in {tar}",
        f"row 7 in {parquet}", f"row 8 in {parquet}", f"row 9 in {parquet}",
    ]  # fmt: skip
    stores = json.loads((mixed / STORES_NAME).read_text())
    assert [each["path"] for each in stores] == ["../loose", "../all.tar", "../data/train.parquet"]


def test_what_is_read_is_counted(mixed: Path, pictures: list[bytes], parquet: Path) -> None:
    index = Index(mixed)
    for row in range(4):
        index.item_files(index.items(row)[0], slice(None))
    expected = [5, 0, 0, 2, 1, 3]
    assert index.stores.files_read == 6
    assert index.stores.bytes_read == sum(len(pictures[number]) for number in expected)
    metadata = pq.ParquetFile(parquet).metadata.row_group(1)
    for row, column in ((4, "image"), (4, "none"), (6, "plain")):
        before = index.stores.bytes_read
        index.item_files(index.items(row)[0], slice(None))
        own = [metadata.column(place) for place in range(metadata.num_columns)]
        sizes = [each.total_compressed_size for each in own if each.path_in_schema.partition(".")[0] == column]
        assert index.stores.bytes_read - before == sum(sizes), "a row group in memory is not read again"


def test_a_dataset_is_the_same_wherever_it_lies(mixed: Path, tmp_path: Path, pictures: list[bytes]) -> None:
    """Its identity has no paths; all of it may move together, or the index alone, or the paths in stores.json may be
    corrected."""
    before = Index(mixed).manifest.identity
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    alone = Index(mixed.rename(moved / "alone"))
    assert alone.manifest.identity == before
    assert alone.item_files(alone.items(4)[0], slice(1)) == [pictures[7]]
    assert all(alone.item_files(item, slice(1)) for row in range(alone.manifest.documents) for item in alone.items(row))
    (moved / "alone").rename(mixed)
    for name in ("loose", "all.tar", "data", "index"):
        (tmp_path / name).rename(moved / name)
    index = Index(moved / "index")
    assert index.manifest.identity == before
    assert index.item_files(index.items(4)[0], slice(1)) == [pictures[7]]
    (moved / "data").rename(tmp_path / "other")
    with pytest.raises(DataError, match=r"lies in .*elsewhere/data/train\.parquet, which is missing; .*--copy"):
        Index(moved / "index")
    text = (moved / "index" / STORES_NAME).read_text()
    (moved / "index" / STORES_NAME).write_text(text.replace("../data/train", str(tmp_path / "other" / "train")))
    index = Index(moved / "index")
    assert index.manifest.identity == before
    assert index.item_files(index.items(4)[0], slice(1)) == [pictures[7]]


CHANGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a folder is gone": ("loose", lambda p: p.rename(p.with_name("x")), "lies in .*loose, which is missing"),
    "a folder is empty": (
        "loose/inner", lambda p: p.rename(p.with_name("x")), r"lies in .*loose, which holds none of inner/a\.png",
    ),
    "a file is gone": ("all.tar", lambda p: p.unlink(), r"lies in .*all\.tar, which is missing"),
    "a file is longer": ("all.tar", lambda p: p.write_bytes(p.read_bytes() + b"x"), r"all\.tar has changed .* bytes"),
    "a file is another": (
        "all.tar", lambda p: p.write_bytes(bytes(p.stat().st_size)), r"all\.tar has changed .*another one of the same",
    ),
    "stores.json is gone": ("index/stores.json", lambda p: p.unlink(), r"stores\.json cannot be read"),
    "stores.json is torn": ("index/stores.json", lambda p: p.write_text("[{"), r"stores\.json cannot be read"),
    "stores.json is no list": ("index/stores.json", lambda p: p.write_text("[1]"), r"stores\.json cannot be read"),
    "a store is left out": ("index/stores.json", lambda p: p.write_text("[]"), "lists other files than the index"),
    "a kind is unknown": (
        "index/stores.json", lambda p: p.write_text(p.read_text().replace("folder", "zip")), "lists other files",
    ),
    "a path is a number": (
        "index/stores.json", lambda p: p.write_text(p.read_text().replace('"../loose"', "3")), "lists other files",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_store_that_changed_is_named_when_the_index_is_opened(mixed: Path, tmp_path: Path, change: str) -> None:
    name, do, message = CHANGES[change]
    do(tmp_path / name)
    with pytest.raises(DataError, match=message):
        Index(mixed)


@pytest.mark.parametrize(("change", "message"), [
    (lambda p: p.unlink(), "a.png cannot be read .No such file"),
    (lambda p: p.write_bytes(p.read_bytes() + b"x"), r"a.png has changed since it was prepared: expected \d+ bytes, f"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1]), r"a.png has changed since it was prepared: expected \d+ bytes, f"),
])  # fmt: skip
def test_a_loose_file_that_changed_is_one_bad_payload(
    mixed: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    source = PreparedSource(mixed, "train", 0, TAKER, 16)
    change(tmp_path / "loose" / "inner" / "a.png")
    errors = [load_item_or_neutral(source, row, 0, source.document(row).items[0])[1] for row in range(len(source))]
    assert [row for row, error in enumerate(errors) if error] == [1, 2]
    with pytest.raises(DataError, match=message):
        source.item(1, 0)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "inner/../../secret.png", ""])
def test_a_name_that_leads_out_of_its_folder_is_not_followed(
    tmp_path: Path, name: str, pictures: list[bytes], make_index: MakeIndex
) -> None:
    (tmp_path / "loose" / "inner").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(pictures[0])
    where = Location(FOLDER, tmp_path / "loose")
    index = Index(make_index([_record(Encoded(0, pictures[0], location=where, names=(name,)))]))
    with pytest.raises(DataError, match="which leads out of"):
        index.item_files(index.items(0)[0], slice(1))


@pytest.mark.parametrize(("row", "group", "column"), [
    (9, 0, "image"), (-1, 0, "image"), (0, 9, "image"), (0, 0, "none"), (0, 0, "images.7"), (0, 0, "id"),
    (0, 0, "images"),
])  # fmt: skip
def test_a_cell_that_is_none_is_refused(parquet: Path, row: int, group: int, column: str) -> None:
    groups = RowGroups(2**20, lambda _count: None)
    for _again in range(2):
        with pytest.raises(DataError, match=rf"train\.parquet: row {row} of row group {group} has no encoded file at"):
            groups.cell(parquet, group, column, row)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match=r"x\.parquet: row 0"):
        RowGroups(1, lambda _count: None).cell(tmp_path / "x.parquet", 0, "image", 0)


def test_row_groups_in_memory_are_bounded(parquet: Path, pictures: list[bytes]) -> None:
    reads: list[int] = []
    one = RowGroups(0, reads.append)
    one.cell(parquet, 0, "plain", 0)
    size = one.bytes_kept
    groups = RowGroups(int(2.5 * size), reads.append)
    reads.clear()
    for group, read in ((0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)):
        assert groups.cell(parquet, group, "plain", 3) == pictures[group * GROUP_ROWS + 3]
        assert len(reads) == read, "the least recently used left"
        assert groups.bytes_kept <= 3 * size


def test_threads_share_one_read(parquet: Path, pictures: list[bytes]) -> None:
    reads: list[int] = []
    groups = RowGroups(2**30, reads.append)
    barrier, found = threading.Barrier(8), {}

    def read(number: int) -> None:
        barrier.wait()
        for row in range(ROWS):
            found[number, row] = groups.cell(parquet, row // GROUP_ROWS, "image", row % GROUP_ROWS)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == -(-ROWS // GROUP_ROWS)
    assert found == {(number, row): pictures[row] for number in range(8) for row in range(ROWS)}


def _blocks(index: Index, split: str) -> tuple[list[int], list[int]] | None:
    lengths = np.diff(index.table.column("items").combine_chunks().offsets.to_numpy())
    owners = np.repeat(np.arange(len(lengths)), lengths)
    found = document_blocks(index, index.rows_of(split), owners, 100)
    return None if found is None else (found.starts.tolist(), found.bytes.tolist())


def test_documents_of_a_row_group_are_one_block(parquet: Path, pictures: list[bytes], make_index: MakeIndex) -> None:
    """Texts between them belong to the block before them; other splits do not count."""
    records: list[Record] = []
    for row in range(ROWS):
        records.append(_record(_cell(parquet, pictures[row], row, "image"), split="ab"[row == 6]))
        if row % 3 == 0:
            records.append(_record(split="a"))
    index = Index(make_index([_record(split="a"), *records, _record(split="c")]))
    found = _blocks(index, "a")
    assert found is not None
    assert found[0] == [0, 1, 8, 14, 20, 27, 32]
    sizes = [len(data) for data in pictures]
    expected = [sum(sizes[row] for row in range(g * 5, min(ROWS, g * 5 + 5)) if row != 6) for g in range(5)]
    assert [size for size in found[1] if size] == expected
    assert _blocks(index, "c") == ([0, 1], [0])


def test_texts_without_pictures_do_not_crowd_into_one_block(
    parquet: Path, pictures: list[bytes], make_index: MakeIndex
) -> None:
    texts: list[Any] = [_record() for _ in range(3 * MOST_LOOSE)]
    index = Index(make_index([_record(_cell(parquet, pictures[0], 0, "image")), *texts]))
    found = _blocks(index, "train")
    assert found is not None
    assert max(np.diff(found[0])) <= MOST_LOOSE + 1
    assert found[0][-1] == 3 * MOST_LOOSE + 1


def test_payload_that_lies_elsewhere_is_in_no_block(make_index: MakeIndex, pictures: list[bytes]) -> None:
    folder = make_index([_record(Encoded(0, pictures[0]))])
    assert PreparedSource(folder, "train", 0, TAKER, 16).blocks is None
