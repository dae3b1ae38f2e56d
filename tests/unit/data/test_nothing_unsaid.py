"""What `prepare` does not read is said: options, subsets, files and folders."""

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from counterpoint.argument import command_line
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import Index
from tests.unit.data.published import picture

RECORD = {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes."}]}


def write(file: Path, count: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(RECORD) + "\n" for _record in range(count)))


def test_an_empty_name_is_not_the_folder_of_the_process(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source '' is no folder"):
        prepare("", tmp_path / "out")


def test_a_condition_on_a_late_column_says_how_far_was_looked(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", 1000)
    with (tmp_path / "train.jsonl").open("a") as lines:
        lines.write(json.dumps(RECORD | {"lang": "de"}) + "\n")
    with pytest.raises(
        DataError, match=r"--where \"lang == 'de'\": there is no column 'lang' in the first 1000 rows; "
    ):
        prepare(str(tmp_path), tmp_path / "out", PrepareOptions(where="lang == 'de'"))


def test_a_folder_that_was_prepared_beside_records_is_no_source(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl")
    for _time in range(2):
        assert not prepare(str(tmp_path), tmp_path / "out").remarks


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"where": "x > 3"}, "--where"),
        ({"maps": ("question=x",)}, "--map"),
        ({"subsets": ("x",)}, "--subset"),
        ({"addresses": "md5"}, "--addresses"),
        ({"on_error": "skip"}, "--on-error"),
        ({"copy": True}, "--copy"),
        ({"fps": 3.0}, "--fps"),
        ({"chat": "plain", "images": (Path("x"),)}, "--images, --chat"),
    ],
)
def test_options_that_the_corpus_does_not_read_are_refused(options: dict[str, Any], name: str, tmp_path: Path) -> None:
    with command_line(), pytest.raises(DataError, match=f"^{name}: nothing reads this for 'emoji'"):
        prepare("emoji", tmp_path / "out", PrepareOptions(**options))
    assert not (tmp_path / "out").exists()


def test_a_seed_that_files_do_not_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "train.jsonl")
    with command_line(), pytest.raises(DataError, match=r"^--seed: nothing reads this for files"):
        prepare(str(tmp_path / "raw"), tmp_path / "out", PrepareOptions(seed=5))


def test_a_subset_is_not_taken_twice(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "one" / "train.jsonl")
    with pytest.raises(DataError, match="--subset 'one': is given twice"):
        prepare(str(tmp_path / "raw"), tmp_path / "out", PrepareOptions(subsets=("one", "one")))


def test_a_condition_that_holds_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(RECORD | {"score": 1}) + "\n")
    options = PrepareOptions(where="score > 3")
    with pytest.raises(DataError, match=r"^no sample is left of 1: 1 left out by --where\.$"):
        prepare(str(tmp_path), tmp_path / "out", options)


Row = dict[str, Any]
ASKED: Row = {"instruction": "What?", "output": "A."}
SHOWN: Row = {"image": "a.png", "text": "A."}


def write_rows(folder: Path, rows: list[Row], kind: str) -> None:
    """A file of JSON lines or parquet, and the picture that its rows name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(picture("a.png"))
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    else:
        (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("row", "unread", "read"),
    [
        (SHOWN | {"caption": "B."}, ["caption"], ["text"]),
        (ASKED | {"question": "Who?", "answer": "B."}, ["answer", "question"], ["output", "instruction"]),
        (ASKED | {"answer": "B."}, ["answer"], ["output"]),
        ({"query": "Who?", "response": "A.", "question": "What?", "answer": "A."}, ["question"], ["query"]),
        (SHOWN | {"caption": "A."}, [], []),
    ],
)
def test_one_of_several_texts_is_read_and_the_others_are_said(
    row: Row, unread: list[str], read: list[str], kind: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "raw", [row, row], kind)

    def remarks(*maps: str) -> list[str]:
        found = prepare(str(tmp_path / "raw"), tmp_path / f"out{len(maps)}", PrepareOptions(maps=maps)).remarks
        return [remark for remark in found if "is not read" in remark]

    pairs = list(zip(unread, read, strict=True))
    assert remarks() == [
        f"2 records: '{key}' is not read, since '{own}' is; choose it with --map {own}={key}, or leave it out with "
        f"--map ignore={key}"
        for key, own in pairs
    ]
    if pairs:
        assert remarks(*(f"{own}={key}" for key, own in pairs)) == []
        assert remarks(*(f"ignore={key}" for key in unread), f"{read[0]}={read[0]}") == []


def test_a_mapped_text_is_read_before_others(tmp_path: Path) -> None:
    write_rows(tmp_path / "raw", [SHOWN | {"caption": "B."}], "parquet")
    options = PrepareOptions(maps=("caption={text} or {caption}",))
    summary = prepare(str(tmp_path / "raw"), tmp_path / "out", options)
    assert not [remark for remark in summary.remarks if "is not read" in remark]
    text = Index(tmp_path / "out").text(0)
    assert text.endswith("A. or B.")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("key", ["text", "caption"])
def test_several_texts_of_one_picture_are_no_answer(kind: str, key: str, tmp_path: Path) -> None:
    write_rows(tmp_path / "raw", [{"image": "a.png", key: ["A.", "B."]}], kind)
    said = rf"it has 2 texts at '{key}', expected one; write a record for each, or join them with --map {key}={{{key}}}"
    with pytest.raises(DataError, match=re.escape(said)):
        prepare(str(tmp_path / "raw"), tmp_path / "out")
    prepare(str(tmp_path / "raw"), tmp_path / "out", PrepareOptions(maps=(f"{key}={{{key}}}",)))
    assert Index(tmp_path / "out").text(0).endswith("A., B.")


@pytest.mark.parametrize("row", [ASKED, SHOWN, {"text_list": ["A."], "image_info": []}])
def test_a_key_that_the_first_records_lack_is_read_or_said_or_refused(row: Row, tmp_path: Path) -> None:
    rows = [row] * 1000
    write_rows(tmp_path / "said", [*rows, row | {"lang": "de", "weight": None}, row], "jsonl")
    assert prepare(str(tmp_path / "said"), tmp_path / "out").remarks == ("key 'lang' of 1 records: not read",)
    write_rows(tmp_path / "lost", [*rows, row | {"weight": 0}], "jsonl")
    with pytest.raises(DataError, match=r"train.jsonl:1001: nothing would read weight \(number\) of the record"):
        prepare(str(tmp_path / "lost"), tmp_path / "other")


def test_what_is_not_read_beside_files_of_records_is_said(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write(raw / "extra.jsonl")
    write(raw / "train" / "more.jsonl", 3)
    write(raw / "data" / "subset" / "train.jsonl", 3)
    (raw / "pictures").mkdir()
    (raw / "pictures" / "a.png").write_bytes(b"")
    for name in ("more.jsonl.gz", "more.jsonl.zst", "table.csv"):
        (raw / name).write_bytes(b"x")
    summary = prepare(str(raw), tmp_path / "out")
    assert summary.manifest.documents == 1
    assert [remark.partition(": not read")[0] for remark in summary.remarks] == [
        str(raw / name) for name in ("more.jsonl.gz", "more.jsonl.zst", "table.csv", "data", "train")
    ]


def test_the_command_that_unpacks_is_one_for_a_shell(tmp_path: Path) -> None:
    folder = tmp_path / "my data; [1]"
    folder.mkdir()
    (folder / "x y.tar.gz").write_bytes(b"x")
    with pytest.raises(DataError, match="is packed") as found:
        prepare(str(folder), tmp_path / "out")
    command = str(found.value).partition("prepare the folder: ")[2]
    target = str(folder / "x y")
    assert shlex.split(command) == ["mkdir", "-p", target, "&&", "tar", "-xf", f"{target}.tar.gz", "-C", target]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A path that the system refuses to read."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        if os.access(path, os.R_OK):
            pytest.skip("this user may read everything")
        yield
    finally:
        path.chmod(mode)


@pytest.mark.parametrize("name", [".", "train"])
def test_a_folder_that_may_not_be_read_is_one_sentence(name: str, tmp_path: Path) -> None:
    write(tmp_path / "raw" / "train" / "train.jsonl")
    with locked(tmp_path / "raw" / name), pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        prepare(str(tmp_path / "raw"), tmp_path / "out")


def test_an_index_that_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "train.jsonl")
    prepare(str(tmp_path / "raw"), tmp_path / "out")
    with (
        locked(tmp_path / "out" / "index.arrow"),
        pytest.raises(DataError, match=r"index\.arrow cannot be read \(Permission denied\)"),
    ):
        Index(tmp_path / "out")


def test_names_of_kinds_are_read_in_any_case(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", 2)
    write(tmp_path / "MORE.JSONL", 3)
    (tmp_path / "LAST.Json").write_text(json.dumps([RECORD]))
    summary = prepare(str(tmp_path), tmp_path / "out")
    assert summary.manifest.splits == {"train": 2, "MORE": 3, "LAST": 1}
