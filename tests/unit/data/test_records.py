"""Records in the forms that people publish, and bad ones: one sentence with file and line, and nothing dropped."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from counterpoint.data.prepare.command import PrepareSummary, prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.tokenizer import Tokenizer, train_tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import Index
from tests.unit.items import MakePicture

Prepare = Callable[..., PrepareSummary]


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer with <s> and </s> as its begin and end tokens, and <image> as an added one."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend = train_tokenizer(["A red square."], 270, path).backend
    values = json.loads(backend.to_str().replace("<bos>", "<s>").replace("<eos>", "</s>"))
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def prepared(tmp_path: Path, make_picture: MakePicture, tokenizer_file: Path) -> Prepare:
    """Prepares records, each a line, of a folder with two pictures and one more outside of it."""

    def run(*records: object, name: str = "train.jsonl", **options: Any) -> PrepareSummary:
        folder = tmp_path / "raw"
        (folder / "inner").mkdir(parents=True)
        (tmp_path / "secret").mkdir()
        for path in (folder / "a.png", folder / "inner" / "b.png", tmp_path / "secret" / "private.png"):
            path.write_bytes(make_picture(8, 4 * len(path.name)))
        (folder / "link.png").symlink_to(tmp_path / "secret" / "private.png")
        (folder / "near.png").symlink_to("inner/b.png")
        lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
        (folder / name).write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        return prepare(str(folder), tmp_path / "out", PrepareOptions(tokenizer=tokenizer_file, **options))

    return run


def turns(question: object, answer: str = "A red square.") -> list[dict[str, object]]:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def messages(question: object, answer: object = "A red square.") -> list[dict[str, object]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def laid(summary: PrepareSummary, row: int = 0) -> tuple[str, str, list[int]]:
    """The text of a document, its targets, special tokens included, and where its items stand."""
    index, backend = Index(summary.out), Tokenizer.load(summary.out / "tokenizer.json").backend
    tokens, loss = index.tokens(row)
    texts = [backend.decode(ids.tolist(), skip_special_tokens=False) for ids in (tokens, tokens[loss])]
    return texts[0], texts[1], [item.position for item in index.items(row)]


PICTURE = {"type": "image", "image": "a.png"}
WHAT = ("<s>What?\nA red square.</s>", "A red square.</s>", [1])
TAKEN: dict[str, tuple[dict[str, object], tuple[str, str, list[int]]]] = {
    "conversations": ({"image": "a.png", "conversations": turns("<image>What?")}, WHAT),
    "user and assistant": (
        {"image": "a.png", "conversations": [{"from": "user", "value": "<image>What?"},
                                             {"from": "assistant", "value": "A red square."}]}, WHAT,
    ),
    "messages": ({"images": ["a.png"], "messages": messages("<image>What?")}, WHAT),
    "parts": ({"messages": messages([PICTURE, {"type": "text", "text": "What?"}])}, WHAT),
    "parts whose pictures are at images": (
        {"images": ["a.png"], "messages": messages([{"type": "image"}, {"type": "text", "text": "What?"}])}, WHAT,
    ),
    "an address as OpenAI writes it": (
        {"messages": messages([{"type": "image_url", "image_url": {"url": "a.png", "detail": None}},
                               {"type": "text", "text": "What?"}], [{"type": "text", "text": "A red square."}])}, WHAT,
    ),
    "a system turn": (
        {"image": "a.png", "conversations": [{"from": "system", "value": "Be brief."}, *turns("<image>What?")]},
        ("<s>Be brief.\nWhat?\nA red square.</s>", "A red square.</s>", [1 + len("Be brief.") + 1]),
    ),
    "a system text": (
        {"system": "Be brief.", "messages": messages("What?")},
        ("<s>Be brief.\nWhat?\nA red square.</s>", "A red square.</s>", []),
    ),
    "no picture, said by null": (
        {"image": None, "conversations": turns("What?"), "tools": None}, (WHAT[0], WHAT[1], []),
    ),
    "a mark of what is not there": (
        {"conversations": turns("What does <image> mean?", "A <video> and </s>.")},
        ("<s>What does <image> mean?\nA <video> and </s>.</s>", "A <video> and </s>.</s>", []),
    ),
    "a mark in a part of text": (
        {"messages": messages([PICTURE, {"type": "text", "text": "<image>?"}])},
        ("<s><image>?\nA red square.</s>", "A red square.</s>", [1]),
    ),
    "special tokens in text": (
        {"conversations": turns("How do I strike out text?", "Write <s>ten</s> nine.")},
        ("<s>How do I strike out text?\nWrite <s>ten</s> nine.</s>", "Write <s>ten</s> nine.</s>", []),
    ),
    "pictures without a mark": (
        {"images": ["a.png", "near.png"], "system": "Be brief.", "conversations": turns("What?")},
        ("<s>Be brief.\nWhat?\nA red square.</s>", "A red square.</s>", [1 + len("Be brief.") + 1] * 2),
    ),
    "a folder within and a link that stays": (
        {"image": ["inner/b.png", "near.png"], "conversations": turns("<image><image>What?")}, (*WHAT[:2], [1, 1]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", TAKEN)
def test_a_form_is_taken(prepared: Prepare, form: str) -> None:
    record, expected = TAKEN[form]
    summary = prepared({"id": "0", **record}, {"id": "0", **record})
    assert laid(summary, 0) == laid(summary, 1) == expected, "ids may repeat"
    backend = Tokenizer.load(summary.out / "tokenizer.json")
    tokens, loss = Index(summary.out).tokens(0)
    assert tokens.tolist().count(backend.eos) == 1
    assert (tokens[0], tokens[-1], bool(loss[-1])) == (backend.bos, backend.eos, True)


def test_a_picture_may_stand_in_the_record_itself(prepared: Prepare, make_picture: MakePicture) -> None:
    data = base64.b64encode(make_picture(8, 12)).decode()
    url = f"data:image/png;base64,{data}"
    part = {"type": "image_url", "image_url": {"url": url}}
    summary = prepared(
        {"image": url, "conversations": turns("<image>What?")}, {"messages": messages([part, PICTURE])}
    )  # fmt: skip
    index = Index(summary.out)
    for row in range(2):
        item = index.items(row)[0]
        assert item.extent == (8, 12)
        assert index.item_files(item, slice(1)) == [make_picture(8, 12)]


def test_records_may_be_one_array(prepared: Prepare) -> None:
    records = [{"id": "0", "image": "a.png", "conversations": turns("<image>What?")}, {"conversations": turns("Hi")}]
    summary = prepared(json.dumps(records, indent=1), name="mix.json")
    assert summary.manifest.splits == {"mix": 2}
    assert laid(summary) == WHAT


def test_a_bad_record_of_an_array_is_named_by_its_line(prepared: Prepare) -> None:
    with pytest.raises(DataError, match=r"mix\.json:4: the record has a key 'weight'"):
        prepared('[\n{"conversations": [{"from": "gpt", "value": "x"}]}\n,\n{"weight": 2}]', name="mix.json")


@pytest.mark.parametrize("text", ["[", "[1 2]", "[{},]", "[]", "[{}", '[{"conversations": []}] x', "[,]"])
def test_a_torn_array_is_refused(prepared: Prepare, text: str) -> None:
    with pytest.raises(DataError, match=r"mix\.json"):
        prepared(text, name="mix.json")


def test_one_file_is_a_source_and_others_are_said(tmp_path: Path, prepared: Prepare, tokenizer_file: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "other.jsonl").write_text("{")
    (tmp_path / "raw" / "info.json").write_text('{"license": 1}')
    with pytest.raises(DataError, match=r"other\.jsonl:1"):
        prepare(str(tmp_path / "raw"), tmp_path / "out", PrepareOptions(tokenizer=tokenizer_file))
    (tmp_path / "raw" / "train.jsonl").write_text(
        json.dumps({"id": 1, "model": "", "conversations": turns("a <image>")})
    )
    one = prepare(str(tmp_path / "raw" / "train.jsonl"), tmp_path / "one", PrepareOptions(tokenizer=tokenizer_file))
    assert one.manifest.splits == {"train": 1}
    (tmp_path / "raw" / "other.jsonl").unlink()
    folder = prepare(str(tmp_path / "raw"), tmp_path / "all", PrepareOptions(tokenizer=tokenizer_file))
    assert [remark.replace(str(tmp_path), "") for remark in folder.remarks] == [
        "/raw/info.json: not read, since it holds no array of records",
        "key 'model' of 1 records: not read",
        "<image>: a plain word in 1 records that have nothing to stand there",
    ]


def _deep(depth: int) -> str:
    return '{"conversations": ' + "[" * depth + "]" * depth + "}"


OUTSIDE = "leads out of .*raw; name the folder that it lies in with --images"
BAD: dict[str, tuple[object, str]] = {
    "a lone surrogate": ('{"conversations": [{"from": "gpt", "value": "hi \\ud83d"}]}', r"lone surrogate '\\ud83d'"),
    "a lone surrogate in a name": (
        {"image": "\ud83d.png", "conversations": turns("<image>")}, r"lone surrogate '\\ud83d'",
    ),
    "deep nesting": (_deep(100_000), "not a JSON object"),
    "less deep nesting": (_deep(900), "expected turns of the form|nested too deeply"),
    "a huge integer": ('{"conversations": ' + "9" * 5000 + "}", "not a JSON object"),
    "a large integer": ('{"image": ' + "9" * 4000 + ', "conversations": [{"from": "gpt", "value": ""}]}', "'image'"),
    "no number": ('{"id": NaN, "conversations": []}', "NaN is no number"),
    "a key twice": ('{"image": "a.png", "image": "b.png"}', "the key 'image' comes twice"),
    "both kinds of turns": ({"conversations": turns("a"), "messages": messages("a")}, "'conversations' or 'messages'"),
    "turns that are none": ({"conversations": {"from": "gpt", "value": "x"}}, "a list 'conversations'"),
    "a role that is no text": ({"conversations": [{"from": ["gpt"], "value": "x"}]}, "expected turns of the form"),
    "tools": ({"tools": '[{"name": "f"}]', "conversations": turns("a")}, "has tools, which this token layout cannot"),
    "a weight": ({"weight": 0.5, "conversations": turns("a")}, "the record has a key 'weight'"),
    "a weight of a turn": (
        {"conversations": [{"from": "gpt", "value": "x", "weight": 0.5}]}, "the weight of a turn is 0.5, expected 0",
    ),
    "a call of a tool": (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "a call of a tool is {}, expected",
    ),
    "a system text twice": (
        {"system": "a", "conversations": [{"from": "system", "value": "b"}]}, "at 'system' and a first turn",
    ),
    "a system text that is none": ({"system": ["a"], "conversations": turns("a")}, "'system' to be a text"),
    "a part of a kind unknown": ({"messages": messages([{"type": "table", "table": []}])}, "parts of the form"),
    "a part with more": ({"messages": messages([{**PICTURE, "weight": 1}])}, "the part has a key 'weight'"),
    "more parts than pictures": ({"messages": messages([{"type": "image"}])}, "1 marks <image> for 0 images"),
    "images at two keys": ({"image": "a.png", "images": [], "conversations": turns("a")}, "both 'image' and 'images'"),
    "a number as a name": ({"image": [1], "conversations": turns("<image>")}, "'image' to be a file name"),
    "no name": ({"image": "", "conversations": turns("<image>")}, "is missing in"),
    "a long name": ({"image": "a" * 5000, "conversations": turns("<image>")}, "cannot be a file's name|is missing"),
    "a zero in a name": ({"image": "a\0b", "conversations": turns("<image>")}, "cannot be a file's name"),
    "an address": ({"image": "https://a.b/c.png", "conversations": turns("<image>")}, "fetch it first"),
    "bad base64": ({"image": "data:image/png;base64,?", "conversations": turns("<image>")}, "is no base64"),
    "base64 of no picture": (
        {"image": "data:image/png;base64,AAAA", "conversations": turns("<image>")}, "given inline: the image bytes",
    ),
    "inline, not base64": ({"image": "data:image/png,x", "conversations": turns("<image>")}, "data:TYPE;base64"),
    "a way out": ({"image": "../secret/private.png", "conversations": turns("<image>")}, OUTSIDE),
    "a way out that is not there": ({"image": "../../none.png", "conversations": turns("<image>")}, OUTSIDE),
    "an absolute path": ({"image": "/etc/passwd", "conversations": turns("<image>")}, OUTSIDE),
    "a link that leaves": ({"image": "link.png", "conversations": turns("<image>")}, OUTSIDE),
    "a folder": ({"image": "inner", "conversations": turns("<image>")}, "is missing in"),
    "parts of a video outside": (
        {"video": ["a.png", "../secret/private.png"], "conversations": turns("<video>")}, OUTSIDE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_record_is_one_sentence_with_file_and_line(prepared: Prepare, tmp_path: Path, fault: str) -> None:
    record, message = BAD[fault]
    with pytest.raises(DataError, match=rf"train\.jsonl:2: (?s:.*)({message})") as found:
        prepared({"conversations": turns("a")}, record)
    assert len(str(found.value)) < 1000
    str(found.value).encode()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_file_without_a_record_is_refused(prepared: Prepare, text: str) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl: holds no record"):
        prepared(text)


def test_folders_that_are_named_may_be_read(prepared: Prepare, tmp_path: Path, make_picture: MakePicture) -> None:
    names = ["private.png", str(tmp_path / "secret" / "private.png"), "link.png", "a.png"]
    summary = prepared(
        {"image": names, "conversations": turns("<image><image><image><image>")}, images=(tmp_path / "secret",)
    )
    index = Index(summary.out)
    read = [index.item_files(item, slice(1))[0] for item in index.items(0)]
    assert read == [make_picture(8, 44)] * 3 + [make_picture(8, 20)]


def test_a_named_folder_that_is_none_is_refused(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--images .*none: is no folder"):
        prepared({"conversations": turns("a")}, images=(tmp_path / "none",))
