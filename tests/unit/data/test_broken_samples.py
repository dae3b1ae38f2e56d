"""Broken samples of every shape and every kind of file: one sentence each, with the place and the reason.

Records of turns are in `test_records`.
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import train_tokenizer
from counterpoint.errors import DataError, MissingFileError
from tests.unit.data.published import (
    from_human,
    of_user,
    picture,
    sound,
    write_json,
    write_lines,
    write_pictures,
)

Break = Callable[[Path], None]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train_tokenizer(["A red square."], 270, path)
    return path


def lines(good: Mapping[str, Any], bad: Mapping[str, Any]) -> Break:
    """A good row and a bad one after it."""
    return both(write_pictures, lambda folder: write_lines(folder / "train.jsonl", [good, bad]))


def parquet(schema: pa.Schema | None = None, **columns: list[Any]) -> Break:
    return lambda folder: pq.write_table(pa.table(columns, schema=schema), folder / "train.parquet")


def arrow(**columns: list[Any]) -> Break:
    def write(folder: Path) -> None:
        table = pa.table(columns)
        with pa.OSFile(str(folder / "train.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)

    return write


def tar(*files: tuple[str, bytes], cut: int | None = None, more: bytes = b"") -> Break:
    def write(folder: Path) -> None:
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as packed:
            for name, content in files:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
        (folder / "train.tar").write_bytes(data.getvalue()[:cut] + more)

    return write


def texts(**files: str | bytes) -> Break:
    """Files by name, in which __ is a dot and _0_ a slash."""

    def write(folder: Path) -> None:
        for name, content in files.items():
            path = folder / name.replace("_0_", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def both(*breaks: Break) -> Break:
    def write(folder: Path) -> None:
        for one in breaks:
            one(folder)

    return write


def energon(dataset: str, split: str | None = None) -> Break:
    files = {"__nv-meta_0_dataset__yaml": dataset} | ({} if split is None else {"__nv-meta_0_split__yaml": split})
    return both(tar(("0.png", picture("a.png")), ("0.txt", b"x")), texts(**files))


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture("a.png"))


PAIR = {"user": "What?", "assistant": "This."}
PAIRS = {"images": ["a.png"], "texts": [PAIR]}
PAGE = {"images": ["a.png", None], "texts": [None, "A."]}
INFO = {"image_name": "a.png", "matched_text_index": 0}
SENTENCES = {"text_list": ["A."], "image_info": [INFO]}
CAPTION = {"image": "a.png", "caption": "A."}
ASKED = {"image": "a.png", "question": "What?", "answer": "A."}
TURNS = {"image": "a.png", "conversations": from_human()}
BESIDE = tar(("0.png", picture("a.png")), ("0.txt", b"A."))

BROKEN: dict[str, tuple[Break, str]] = {
    # Marks.
    "fewer marks": (lines(TURNS, TURNS | {"image": ["a.png", "b.png"]}), r"jsonl:2: 1 marks <image> for 2 images"),
    "more marks": (
        lines(TURNS, TURNS | {"conversations": from_human("<image><image>")}),
        "2 marks <image> for 1 images",
    ),
    "marks of a video": (
        lines(TURNS, {"video": [["a.png"], ["a.png"]], "conversations": from_human("<image>")}),
        "0 marks <video>|2 videos",
    ),
    "an index that jumps": (
        lines(TURNS, {"images": ["a.png"], "messages": of_user([{"type": "image", "index": 1}])}),
        "'index' is 1",
    ),
    "an index that is none": (
        lines(TURNS, {"images": ["a.png"], "messages": of_user([{"type": "image", "index": "x"}])}),
        "'index' is 'x'",
    ),
    # Pairs.
    "no pair": (lines(PAIRS, PAIRS | {"texts": []}), "'texts' to be a list of at least one pair"),
    "pairs that are null": (lines(PAIRS, PAIRS | {"texts": None}), "'texts' to be a list of at least one pair"),
    "a pair without an answer": (lines(PAIRS, PAIRS | {"texts": [{"user": "x"}]}), r"pairs \{'user': text"),
    "a pair of numbers": (lines(PAIRS, PAIRS | {"texts": [{"user": 1, "assistant": 2}]}), r"pairs \{'user': text"),
    "a pair that is a text": (lines(PAIRS, PAIRS | {"texts": ["x"]}), r"pairs \{'user': text"),
    "pairs of unequal lists": (
        lines(PAIRS, PAIRS | {"texts": {"user": ["x"], "assistant": []}}),
        "'texts' to be a list of at least one pair",
    ),
    "pairs with a picture that is not there": (lines(PAIRS, PAIRS | {"images": ["c.png"]}), "c.png is missing"),
    "pairs with images that are none": (lines(PAIRS, PAIRS | {"images": [3]}), "'images' to be a file name or a list"),
    "pairs with an image that is null": (
        lines(PAIRS, PAIRS | {"images": [None]}),
        "'images' to be a file name or a list",
    ),
    "pairs with half of a character": (
        lines(PAIRS, PAIRS | {"texts": [PAIR | {"user": "\ud83d"}]}),
        "lone surrogate",
    ),
    # Pages.
    "a page of unequal lists": (lines(PAGE, PAGE | {"images": ["a.png"]}), "1 entries at 'images' and 2 at 'texts'"),
    "a page with both at a place": (lines(PAGE, PAGE | {"texts": ["x", "y"]}), "place 0 of 'images' and 'texts' holds"),
    "a page with none at a place": (
        lines(PAGE, PAGE | {"images": [None, None]}),
        "place 0 of 'images' and 'texts' holds",
    ),
    "a page without text": (lines(PAGE, {"images": ["a.png"], "texts": [None]}), "it holds no text"),
    "a page that is null": (lines(PAGE, {"images": None, "texts": None}), "'images' to be a list"),
    "a page with a number": (lines(PAGE, PAGE | {"texts": [None, 3]}), "expected a text, got 3"),
    "a page with an address": (lines(PAGE, PAGE | {"images": ["https://a.b/c.png", None]}), "--addresses"),
    "a page with a picture that is not there": (lines(PAGE, PAGE | {"images": ["c.png", None]}), "c.png is missing"),
    # Sentences.
    "a sentence out of range": (
        lines(SENTENCES, SENTENCES | {"image_info": [INFO | {"matched_text_index": 1}]}),
        "number of one of the 1 texts",
    ),
    "a sentence before the first": (
        lines(SENTENCES, SENTENCES | {"image_info": [INFO | {"matched_text_index": -1}]}),
        "number of one of the 1 texts",
    ),
    "a sentence that is true": (
        lines(SENTENCES, SENTENCES | {"image_info": [INFO | {"matched_text_index": True}]}),
        "number of one of",
    ),
    "an image without a name": (
        lines(SENTENCES, SENTENCES | {"image_info": [{"matched_text_index": 0}]}),
        "image_name",
    ),
    "an image that is a text": (lines(SENTENCES, SENTENCES | {"image_info": ["a.png"]}), "image_name"),
    "sentences that are null": (lines(SENTENCES, SENTENCES | {"text_list": None}), "'text_list' to be a list"),
    "a sentence that is null": (lines(SENTENCES, SENTENCES | {"text_list": [None]}), "expected a text, got None"),
    "no sentence": (lines(SENTENCES, {"text_list": [], "image_info": []}), "it holds no text"),
    # Captions and sound.
    "a caption that is null": (lines(CAPTION, CAPTION | {"caption": None}), "a text at one of text, caption, got None"),
    "a caption of spaces": (lines(CAPTION, CAPTION | {"caption": " \n"}), "a text at one of text, caption"),
    "a caption that is a number": (lines(CAPTION, CAPTION | {"caption": 3}), "a text at one of text, caption"),
    "a caption without an image": (lines(CAPTION, CAPTION | {"image": None}), "it has none of image"),
    "a caption of two kinds": (lines(CAPTION, CAPTION | {"images": ["a.png"]}), "'image' and 'images' of image"),
    "a picture that is none": (
        both(texts(c__png="no picture"), lines(CAPTION, CAPTION | {"image": "c.png"})),
        "c.png: the image bytes",
    ),
    "a sound that is none": (
        both(
            texts(a__wav=sound(), b__wav="no sound"),
            lines({"audio": "a.wav", "text": "A."}, {"audio": "b.wav", "text": "A."}),
        ),
        r"b\.wav: ",
    ),
    "a sound without text": (
        both(texts(a__wav=sound()), lines({"audio": "a.wav", "text": "A."}, {"audio": "a.wav", "text": ""})),
        "a text at one of",
    ),
    "labels without a name": (
        both(texts(a__wav=sound()), lines({"audio": "a.wav", "labels": ["A"]}, {"audio": "a.wav", "labels": []})),
        "a text at one of",
    ),
    "a video file without what reads it": (
        both(texts(a__mp4="video"), lines(TURNS, {"video": "a.mp4", "conversations": from_human("<video>")})),
        r"a\.mp4",
    ),
    # Questions.
    "a question that is null": (lines(ASKED, ASKED | {"question": None}), "'question' to be a text, got None"),
    "an answer of many": (lines(ASKED, ASKED | {"answer": ["A", "B"]}), "'answer' to be a text"),
    "a history that is none": (lines(ASKED, ASKED | {"history": "x"}), "'history' to be a list of pairs"),
    "a history of one": (lines(ASKED, ASKED | {"history": [["x"]]}), "'history' to hold pairs"),
    # Columns.
    "columns of no shape": (
        texts(train__jsonl='{"prompt": "x", "url": "y"}'),
        r"columns are prompt \(text\), url \(text\), expected",
    ),
    "a picture that nothing reads": (
        parquet(conversations=[from_human("x")], shown=[{"bytes": picture("a.png"), "path": None}]),
        r"nothing would read shown \(image\)",
    ),
    "weights that nothing reads": (
        parquet(image=[picture("a.png")], text=["x"], weight=[0.5]),
        r"nothing would read weight",
    ),
    "pairs preferred and not": (
        parquet(image=[picture("a.png")], question=["x"], answer=["x"], chosen=["y"], rejected=["z"]),
        "nothing would read chosen",
    ),
    # Parquet.
    "a parquet that is none": (texts(train__parquet="PAR1 no"), r"train\.parquet: is no parquet file"),
    "a parquet that is empty": (texts(train__parquet=""), r"train\.parquet: is no parquet file"),
    "a parquet without rows": (
        parquet(image=pa.array([], pa.binary()), text=pa.array([], pa.string())),
        "holds no row|columns",
    ),
    "a parquet row without a picture": (
        parquet(image=[{"bytes": picture("a.png"), "path": None}, {"bytes": None, "path": None}], text=["x", "y"]),
        r"train\.parquet: row 1: it has none of image",
    ),
    "a parquet row with a name only": (
        parquet(image=[{"bytes": picture("a.png"), "path": None}, {"bytes": None, "path": "c.png"}], text=["x", "y"]),
        r"row 1: image c.png is missing",
    ),
    "a parquet row with a way out": (
        parquet(
            image=[{"bytes": picture("a.png"), "path": None}, {"bytes": None, "path": "/etc/passwd"}], text=["x", "y"]
        ),
        "row 1: image /etc/passwd leads out",
    ),
    "a parquet row with a picture that is none": (
        parquet(image=[picture("a.png"), b"no picture"], text=["x", "y"]),
        "row 1: .*the image bytes",
    ),
    "turns of a parquet without a speaker": (
        parquet(conversations=[from_human("x"), [{"from": None, "value": "x"}]]),
        "row 1: expected turns of the form",
    ),
    # Arrow.
    "an Arrow file that is none": (texts(train__arrow="no arrow"), r"train\.arrow: is no Arrow file"),
    "an Arrow file that is empty": (texts(train__arrow=""), r"train\.arrow: is no Arrow file"),
    "an Arrow row with an odd text": (
        arrow(image=[picture("a.png")] * 2, text=["x", ""]),
        r"train\.arrow: row 1: expected a text",
    ),
    "a saved dataset without its file": (
        both(arrow(text=["x"]), texts(state__json='{"_data_files": [{"filename": "data.arrow"}]}')),
        "data.arrow: is missing",
    ),
    "a saved dataset that leads out": (
        both(arrow(text=["x"]), texts(state__json='{"_data_files": [{"filename": "../data.arrow"}]}')),
        "'_data_files' with file",
    ),
    "a saved dataset of no splits": (texts(dataset_dict__json='{"splits": "train"}'), "'splits' to be a list of names"),
    "a saved dataset that leads up": (texts(dataset_dict__json='{"splits": [".."]}'), "'splits' to be a list of names"),
    "a saved dataset without a split": (
        texts(dataset_dict__json='{"splits": ["train"]}'),
        "train: is missing|cannot be read",
    ),
    # Tars.
    "a tar that is none": (texts(train__tar="no tar" * 200), r"train\.tar: is no tar"),
    "a tar that is empty": (tar(), r"train\.tar: holds no sample"),
    "a tar that is cut in a file": (
        tar(("0.png", picture("a.png")), ("0.txt", b"x" * 2000), cut=2600),
        "is cut off: 0.txt",
    ),
    "a tar that is cut after a file": (tar(("0.png", picture("a.png")), ("0.txt", b"A."), cut=2048), "is cut off"),
    "two tars in one": (tar(("0.png", picture("a.png")), ("0.txt", b"A."), more=b"x" * 512), "several tars in one"),
    "a part twice": (
        tar(("0.png", picture("a.png")), ("0.txt", b"A."), ("1.txt", b"A"), ("1.txt", b"A")),
        "1: it has two files .txt",
    ),
    "a text that is no text": (
        tar(("0.png", picture("a.png")), ("0.txt", b"A."), ("1.txt", b"\xff")),
        "1.txt is not UTF-8",
    ),
    "JSON that is none": (tar(("0.png", picture("a.png")), ("0.txt", b"A."), ("1.json", b"{")), "1.json is no JSON"),
    "a sample without its picture": (
        tar(("0.png", picture("a.png")), ("0.txt", b"A."), ("1.txt", b"A.")),
        "1: it has none of image",
    ),
    "a sample without its text": (
        tar(("0.png", picture("a.png")), ("0.txt", b"A."), ("1.png", picture("a.png"))),
        "1: expected a text at one of",
    ),
    "a part that nothing reads": (
        tar(("0.png", picture("a.png")), ("0.txt", b"A."), ("0.pickle", b"x")),
        "nothing would read pickle|columns",
    ),
    "a field map that is code": (
        energon("sample_loader: sample_loader.py\nfield_map: [image]"),
        "'field_map' to name the part",
    ),
    "a field map that is no YAML": (energon("field_map: ["), r"dataset\.yaml: is no YAML"),
    "a field of nothing": (energon("field_map: {image: png, caption: '[x'}"), "is no part of a sample"),
    "splits that are none": (energon("field_map: {}", "split_parts: 3"), "'split_parts' with the tars"),
    "splits of a torn brace": (
        energon("field_map: {}", "split_parts: {train: ['{0']}"),
        "has a brace without its other",
    ),
    "splits of too many": (
        energon("field_map: {}", "split_parts: {train: ['{0..9999999999}.tar']}"),
        "more than 1000000 files",
    ),
    # Folders.
    "a packed tar": (texts(train__tar__gz="x"), r"train\.tar\.gz: is packed, .*mkdir -p .*train && tar -xf"),
    "a zip": (zipped, r"pictures\.zip: is packed, .*unzip"),
    "two subsets": (
        both(texts(one_0_a__jsonl="{}", two_0_b__jsonl="{}")),
        "holds 2 subsets; choose with --subset NAME, repeatable: one, two",
    ),
    "an image without a text": (
        both(write_pictures, texts(a__txt="A.")),
        r"b\.png: there is no b\.txt beside it",
    ),
    "a text beside an image that is none": (
        both(write_pictures, texts(a__txt=b"\xff", b__txt="B.")),
        r"a\.txt is not UTF-8",
    ),
    "nothing": (texts(readme__md="x"), r"no \*\.jsonl file"),
    # JSON arrays.
    "an array that goes on": (
        texts(train__json='[{"instruction": "x", "output": "y"}] 3'),
        r"train\.json: goes on after its array",
    ),
    "an array that is not UTF-8": (texts(train__json=b'[{"instruction": "\xff"}]'), r"train\.json: is not UTF-8"),
    "an array of numbers": (texts(train__json="[1, 2]"), r"train\.json:1: expected an object"),
}


def test_there_are_at_least_eighty() -> None:
    assert len(BROKEN) >= 80


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_sample_is_one_sentence_with_its_reason(fault: str, tmp_path: Path, tokenizer_file: Path) -> None:
    write, message = BROKEN[fault]
    folder = tmp_path / "raw"
    folder.mkdir()
    write(folder)
    with pytest.raises(DataError, match=message) as found:
        prepare(str(folder), tmp_path / "out", PrepareOptions(tokenizer=tokenizer_file))
    text = str(found.value)
    text.encode()
    assert str(folder) in text
    assert len(text) < 1500
    assert "\n" not in text
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_has_an_error_of_its_own(tmp_path: Path, tokenizer_file: Path) -> None:
    write_json(tmp_path / "raw" / "train.json", [TURNS, {"conversations": from_human("Hello?")}])
    options = PrepareOptions(tokenizer=tokenizer_file)
    with pytest.raises(DataError, match=r"train\.json:1: image a\.png is missing") as found:
        prepare(str(tmp_path / "raw"), tmp_path / "out", options)
    assert isinstance(found.value.__cause__, MissingFileError)
    kept = prepare(str(tmp_path / "raw"), tmp_path / "out", replace(options, most_missing=0.5))
    assert kept.manifest.documents == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": ("question",)}, "expected key=column, or a YAML file"),
        ({"maps": ("questoin=a",)}, "no shape has such a key; did you mean question"),
        ({"maps": ("question=a", "question=b")}, "--map question: is given twice"),
        ({"maps": ("question=promt", "answer=reply")}, "there is no column 'promt'; did you mean prompt"),
        ({"maps": ("question={promt}?", "answer=reply")}, "there is no column 'promt'; did you mean prompt"),
        ({"maps": ("ignore=x",)}, "there is no column 'x'"),
        ({"maps": ("missing.yaml",)}, "cannot be read"),
        ({"where": "skore > 3"}, "there is no column 'skore' in the first 1000 rows; did you mean score"),
        ({"where": "score >"}, "is no condition"),
        ({"where": "prompt > 3"}, r"train\.jsonl:1: .*compares values of two kinds"),
        ({"addresses": "crc"}, "--addresses: got 'crc', expected one of name"),
        ({"subsets": ("x",)}, "--subset 'x': .* has no such folder"),
        ({"images": (Path("none"),)}, "--images none: is no folder, tar or zip"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path, tokenizer_file: Path
) -> None:
    write_lines(tmp_path / "raw" / "train.jsonl", [{"prompt": "x", "reply": "y", "score": 3}])
    kept = {"maps": ("question=prompt", "answer=reply")} | options
    with pytest.raises(DataError, match=message):
        prepare(str(tmp_path / "raw"), tmp_path / "out", PrepareOptions(tokenizer=tokenizer_file, **kept))


def test_a_mapping_may_be_a_file(tmp_path: Path, tokenizer_file: Path) -> None:
    write_lines(tmp_path / "raw" / "train.jsonl", [{"prompt": "x", "reply": {"a": 1}, "score": 3, "weight": 1}])
    (tmp_path / "map.yaml").write_text(
        json.dumps({"question": "Rate {prompt}.", "answer": "{score}", "ignore": ["weight", "reply"]})
    )
    summary = prepare(
        str(tmp_path / "raw"),
        tmp_path / "out",
        PrepareOptions(tokenizer=tokenizer_file, maps=(str(tmp_path / "map.yaml"),)),
    )
    assert summary.manifest.documents == 1
