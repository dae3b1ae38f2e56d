"""A chat template from the folder of a tokenizer to prepared bytes, and back to prompts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from counterpoint.data.prepare.command import PrepareSummary, prepare
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.text.chat import Message
from counterpoint.data.text.formats import chat_format, dataset_format
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import Index
from tests.unit.data.chat_folders import FAMILIES, write_folder

CALL = {"type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
RECORDS: list[dict[str, Any]] = [
    {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]},
    {
        "messages": [
            {"role": "system", "content": "model"},
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": "A cat.", "weight": 0},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "3 <|im_end|> dogs.", "weight": 1},
        ]
    },
    {
        "tools": [{"type": "function", "function": {"name": "weather"}}],
        "messages": [
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "content": "3 degrees", "tool_call_id": "1"},
            {"role": "assistant", "content": "3."},
        ],
    },
]


def write(folder: Path, records: Sequence[Any] = RECORDS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def made(tmp_path: Path, name: str = "out", family: str = "qwen2.5", **options: Any) -> PrepareSummary:
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES[family])
    return prepare(str(write(tmp_path / "raw")), tmp_path / name, PrepareOptions(tokenizer=tokenizer, **options))


def runs(index: Index, tokenizer: Tokenizer, row: int) -> list[str]:
    tokens, loss = index.tokens(row)
    text = [
        tokenizer.backend.decode([token], skip_special_tokens=False) if on else "\0" for token, on in zip(tokens, loss)
    ]
    return [run for run in "".join(text).split("\0") if run]


def test_a_folder_with_a_template_lays_out_by_it(tmp_path: Path) -> None:
    summary = made(tmp_path)
    index = Index(summary.out)
    tokenizer = Tokenizer.load(summary.out / "tokenizer.json")
    assert index.manifest.chat == "template"
    assert runs(index, tokenizer, 0) == ["A cat.<|im_end|>"]
    assert runs(index, tokenizer, 1) == ["3 <|im_end|> dogs.<|im_end|>"]
    assert [run[:25] for run in runs(index, tokenizer, 2)] == ['<tool_call>\n{"name": "wea', "3.<|im_end|>"]
    assert any("laid out by the chat template" in remark and "<|im_end|>" in remark for remark in summary.remarks)
    chat = chat_format(index, tokenizer)
    assert dataset_format(summary.out, tokenizer) == chat
    prompt = chat.prompt([Message("user", ("What?",))])
    tokens, loss = index.tokens(0)
    assert tokens[: loss.tolist().index(True)].tolist() == list(prompt.tokens)
    assert chat.lay([Message("user", ("What?",)), Message("assistant", ("A cat.",))]).tokens == tuple(tokens)


def test_the_same_again_is_the_same_and_another_day_is_not(tmp_path: Path) -> None:
    first = made(tmp_path)
    assert not made(tmp_path).is_new
    other = made(tmp_path, "other", date="2025-01-02")
    assert other.manifest.identity != first.manifest.identity
    assert other.manifest.arrow_sha256 == first.manifest.arrow_sha256


def test_processes_lay_out_alike(tmp_path: Path) -> None:
    one, two = made(tmp_path, "one", workers=1), made(tmp_path, "two", workers=2)
    assert one.manifest == two.manifest
    assert one.remarks == two.remarks


def test_plain_is_as_before(tmp_path: Path) -> None:
    write_folder(tmp_path / "tokenizer", FAMILIES["chatml"])
    source = write(tmp_path / "raw", RECORDS[:1])
    file = prepare(str(source), tmp_path / "a", PrepareOptions(tokenizer=tmp_path / "tokenizer" / "tokenizer.json"))
    folder = prepare(str(source), tmp_path / "b", PrepareOptions(tokenizer=tmp_path / "tokenizer", chat="plain"))
    assert file.manifest == folder.manifest
    assert file.manifest.chat == "plain"
    assert "chat_sha256" not in file.manifest.values()
    all_of_it = prepare(
        str(source), tmp_path / "c", PrepareOptions(tokenizer=tmp_path / "tokenizer" / "tokenizer.json", train_on="all")
    )
    assert Index(all_of_it.out).tokens(0)[1].all()


@pytest.mark.parametrize("name", ["chat.json", "chat_template.jinja"])
def test_a_template_that_was_changed_is_refused(tmp_path: Path, name: str) -> None:
    summary = made(tmp_path)
    tokenizer = Tokenizer.load(summary.out / "tokenizer.json")
    file = summary.out / name
    file.write_text(file.read_text() + " ")
    with pytest.raises(DataError, match=rf"{name} is not what was prepared"):
        dataset_format(summary.out, tokenizer)
    file.unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        dataset_format(summary.out, tokenizer)


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no template": ({"chat": "template"}, {"chat_template": None}, "has no chat template"),
    "a layout that is none": ({"chat": "chatml"}, {}, "got 'chatml', expected 'plain' or 'template'"),
    "targets that are none": ({"train_on": "user"}, {}, "got 'user', expected one of all, assistant, last"),
    "a day that is none": ({"date": "today"}, {}, "got 'today', expected a day"),
    "a day that nothing reads": ({"chat": "plain", "date": "2025-01-02"}, {}, "only a chat template reads it"),
    "a template that is none": ({}, {"chat_template": 3}, "expected 'chat_template' to be a text"),
    "a template of another name": ({}, {"chat_template": [{"name": "rag", "template": "x"}]}, "one named 'default'"),
    "a template without an end": ({}, {"chat_template": "{{ messages | map(attribute='content') | join }}"}, "ends an"),
    "a template that says nothing": ({}, {"chat_template": "x"}, "does not write what a user says"),
    "a template that does not end": ({}, {"chat_template": "{% for i in range(9**9) %}{% endfor %}"}, "Range too big"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_said(tmp_path: Path, case: str) -> None:
    options, config, reason = WRONG[case]
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES["chatml"], **config)
    with pytest.raises(DataError, match=reason):
        prepare(str(write(tmp_path / "raw")), tmp_path / "out", PrepareOptions(tokenizer=tokenizer, **options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 10**5])
def test_a_malformed_folder_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES["chatml"])
    (tokenizer / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        prepare(str(write(tmp_path / "raw")), tmp_path / "out", PrepareOptions(tokenizer=tokenizer))


def test_a_record_that_the_template_refuses_has_its_line(tmp_path: Path) -> None:
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES["gemma"])
    with pytest.raises(DataError, match=r"train\.jsonl:2: .*System role not supported"):
        prepare(str(write(tmp_path / "raw", RECORDS[:2])), tmp_path / "out", PrepareOptions(tokenizer=tokenizer))


BAD_TURNS: dict[str, tuple[dict[str, Any], str]] = {
    "a weight between": ({"weight": 0.5}, "weight of a turn is 0.5"),
    "a weight that is none": ({"weight": True}, "weight of a turn is True"),
    "a name that is none": ({"name": 3}, "'name' of a turn is 3"),
    "calls that are none": ({"tool_calls": "x"}, "'tool_calls' of a turn is 'x'"),
    "arguments that are none": ({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "are no JSON"),
    "arguments that are a list": ({"tool_calls": [{"function": {"name": "f", "arguments": []}}]}, "expected an object"),
}


@pytest.mark.parametrize("case", BAD_TURNS)
def test_a_turn_that_cannot_be_read_has_its_line(tmp_path: Path, case: str) -> None:
    more, reason = BAD_TURNS[case]
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y", **more}]
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES["chatml"])
    with pytest.raises(DataError, match=rf"train\.jsonl:1: .*{reason}"):
        prepare(
            str(write(tmp_path / "raw", [{"messages": messages}])),
            tmp_path / "out",
            PrepareOptions(tokenizer=tokenizer),
        )
