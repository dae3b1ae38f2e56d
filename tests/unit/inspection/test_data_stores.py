"""Info, lint and preview of folders whose payload lies elsewhere: loose files, tars and cells of parquet files."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.inspection.data_info import data_info
from counterpoint.inspection.data_lint import lint
from counterpoint.report.data_preview import write_preview
from counterpoint.report.data_text import MOST_FILES, info_text
from counterpoint.sources.prepared.index import ARROW_NAME, PAYLOAD_NAME
from tests.unit.inspection.planted import tokenizer_in
from tests.unit.items import MakePicture
from tests.unit.items import make_picture as make_picture
from tests.unit.modalities.videos import write_video

CAPTIONS = ("a cat", "two dogs", "the sea")
Pictures = Mapping[str, bytes]
Lay = Callable[[Path, Pictures], tuple[str, int]]


def _loose(folder: Path, pictures: Pictures) -> tuple[str, int]:
    for caption, (name, data) in zip(CAPTIONS, pictures.items(), strict=True):
        (folder / name).write_bytes(data)
        (folder / name).with_suffix(".txt").write_text(caption)
    return f"{folder}/", sum(map(len, pictures.values()))


def _tar(folder: Path, pictures: Pictures) -> tuple[str, int]:
    path = folder / "train-0000.tar"
    with tarfile.open(path, "w") as tar:
        for caption, (name, data) in zip(CAPTIONS, pictures.items(), strict=True):
            for member, content in ((name, data), (f"{Path(name).stem}.txt", caption.encode())):
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return str(path), path.stat().st_size


def _parquet(folder: Path, pictures: Pictures) -> tuple[str, int]:
    path = folder / "train-00000-of-00001.parquet"
    cells = [{"bytes": data, "path": name} for name, data in pictures.items()]
    pq.write_table(pa.table({"image": cells, "caption": list(CAPTIONS)}), path, row_group_size=2)
    return str(path), path.stat().st_size


def _prepared(lay: Lay, pictures: Pictures, folder: Path) -> tuple[Path, str, int]:
    """The index of a dataset, where its payload lies, and the bytes of that."""
    tokenizer_in(folder)
    (folder / "data").mkdir()
    place, size = lay(folder / "data", pictures)
    prepare(str(folder / "data"), folder / "index", PrepareOptions(tokenizer=folder / "tokenizer.json"))
    return folder / "index", place, size


@pytest.fixture
def pictures(make_picture: MakePicture) -> dict[str, bytes]:
    return {f"{number}.png": make_picture(8, 6 + number) for number in range(3)}


@pytest.mark.parametrize("lay", [_loose, _tar, _parquet])
def test_payload_is_looked_at_where_it_lies(lay: Lay, pictures: Pictures, tmp_path: Path) -> None:
    index, place, size = _prepared(lay, pictures, tmp_path)
    found = data_info(index)
    assert found.stores == {ARROW_NAME: (index / ARROW_NAME).stat().st_size, PAYLOAD_NAME: 0, place: size}
    assert (found.documents, found.items["image"].files, found.chat) == (3, 3, "plain")
    assert any(f"{PAYLOAD_NAME} 0 B, {place} " in line for line in info_text(found) if isinstance(line, str))
    assert lint(index).findings == {}
    write_preview(index, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count("<img") == 3
    assert all(name in html for name in pictures)


@pytest.mark.parametrize("lay", [_loose, _tar, _parquet])
def test_a_bad_file_is_named_where_it_lies(lay: Lay, pictures: dict[str, bytes], tmp_path: Path) -> None:
    whole = pictures["1.png"]
    pictures["1.png"] = whole[: len(whole) // 2].ljust(len(whole), b"\0")
    index, place, _size = _prepared(lay, pictures, tmp_path)
    finding = lint(index).findings["unreadable"]
    assert (finding.count, len(finding.places)) == (1, 1)
    assert "1.png" in finding.places[0]
    assert place in finding.places[0]
    write_preview(index, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert (html.count("<img"), html.count("cannot be read")) == (2, 1)


def test_a_file_of_several_documents_counts_once(make_picture: MakePicture, tmp_path: Path) -> None:
    tokenizer_in(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(make_picture(8, 8))
    turns = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "a cat"}]
    line = json.dumps({"image": "a.png", "messages": turns})
    (tmp_path / "data" / "train.jsonl").write_text(f"{line}\n{line}\n")
    prepare(str(tmp_path / "data"), tmp_path / "index", PrepareOptions(tokenizer=tmp_path / "tokenizer.json"))
    assert data_info(tmp_path / "index").stores[f"{tmp_path / 'data'}/"] == len(make_picture(8, 8))


def test_a_video_file_is_seen_by_its_frames(tmp_path: Path) -> None:
    pytest.importorskip("av")
    tokenizer_in(tmp_path)
    (tmp_path / "data").mkdir()
    film = tmp_path / "data" / "a.mp4"
    film.write_bytes(write_video(50))
    turns = [{"role": "user", "content": "<video>What is it?"}, {"role": "assistant", "content": "a cat"}]
    (tmp_path / "data" / "train.jsonl").write_text(json.dumps({"video": "a.mp4", "messages": turns}) + "\n")
    options = PrepareOptions(tokenizer=tmp_path / "tokenizer.json", fps=10.0)
    prepare(str(tmp_path / "data"), tmp_path / "index", options)
    found = data_info(tmp_path / "index")
    assert (found.items["image"].items, found.items["image"].files) == (1, 20)
    assert found.stores[f"{film.parent}/"] == film.stat().st_size
    assert lint(tmp_path / "index").findings == {}
    write_preview(tmp_path / "index", tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert html.count("<img") == 1
    assert "image 1: 48x64, 20 pictures" in html
    content = film.read_bytes()
    start = content.index(b"mdat") + 4 + len(content) // 3
    film.write_bytes(content[:start] + bytes(len(content) // 3) + content[start + len(content) // 3 :])
    assert "a.mp4" in lint(tmp_path / "index").findings["unreadable"].places[0]


def test_many_files_are_summed(pictures: Pictures, tmp_path: Path) -> None:
    found = data_info(_prepared(_loose, pictures, tmp_path)[0])
    many = replace(found, stores={f"{number}.tar": 1024 for number in range(MOST_FILES + 3)})
    files = next(line for line in info_text(many) if str(line).startswith("files: "))
    assert str(files).endswith(f"{MOST_FILES - 1}.tar 1.0 KiB, and 3 more 3.0 KiB")
