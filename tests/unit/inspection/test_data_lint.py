"""What lint says of a folder: nothing where all is right, and each fault that is planted, with its place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.inspection.data_checks import odd_characters
from counterpoint.inspection.data_lint import MOST_PLACES, Lint, answers, lint
from counterpoint.sources.prepared.index import PAYLOAD_NAME
from counterpoint.sources.prepared.part import Encoded, Record
from tests.unit.inspection.planted import ANSWERS, tokenizer_in, words, write
from tests.unit.items import MakeClip, MakePicture
from tests.unit.items import make_clip as make_clip
from tests.unit.items import make_picture as make_picture


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return tokenizer_in(tmp_path)


def _right(tokenizer: Tokenizer, make_picture: MakePicture) -> list[Record]:
    return [
        words(tokenizer, "What is it?", answer, "train", Encoded(1, make_picture(8, 6 + n), names=(f"{n}.png",)))
        for n, answer in enumerate(ANSWERS)
    ]


def _found(found: Lint) -> dict[str, list[str]]:
    return {kind: finding.places for kind, finding in found.findings.items()}


def test_nothing_is_found_where_all_is_right(
    tokenizer: Tokenizer, make_picture: MakePicture, make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = words(tokenizer, "Who?", "me", "val", Encoded(0, make_clip(500), "audio"))
    found = lint(write(tmp_path, [*_right(tokenizer, make_picture), clip]), sequence_tokens=40)
    assert (found.findings, found.checked, found.is_clean) == ({}, 4, True)


def test_each_fault_of_a_text_is_found(tokenizer: Tokenizer, make_picture: MakePicture, tmp_path: Path) -> None:
    right = _right(tokenizer, make_picture)
    silent = words(tokenizer, "Silent?", "x")
    planted = {
        "without_loss": replace(silent, loss=[False] * len(silent.loss)),
        "empty_answer": words(tokenizer, "Empty?", " "),
        "mark": words(tokenizer, "A <image> as a word?", "yes"),
        "odd_text": words(tokenizer, "A \x07 bell?", "yes"),
        "too_long": words(tokenizer, "What? " * 40, "much"),
        "duplicate": right[0],
        "leak": replace(right[1], split="val"),
    }
    found = _found(lint(write(tmp_path, [*right, *planted.values()]), sequence_tokens=40))
    assert {kind: len(places) for kind, places in found.items()} == dict.fromkeys(planted, 1)
    rows = dict(zip(planted, range(3, 3 + len(planted)), strict=True))
    splits = {kind: record.split for kind, record in planted.items()}
    assert all(places[0].startswith(f"{splits[kind]}, row {rows[kind]}") for kind, places in found.items())
    assert found["mark"] == ["train, row 5: <image>"]
    assert found["odd_text"] == ["train, row 6: a control character, U+0007"]
    assert found["duplicate"] == ["train, row 8: as train, row 0"]
    assert found["leak"] == ["val, row 9: as train, row 1"]


def test_files_that_changed_are_found(tokenizer: Tokenizer, make_picture: MakePicture, tmp_path: Path) -> None:
    right = _right(tokenizer, make_picture)
    long = words(tokenizer, "What is it?", "a line", "train", Encoded(1, make_picture(2, 90), names=("line.png",)))
    folder = write(tmp_path, [*right, long])
    sizes = [len(record.items[0].data) for record in right]
    with (folder / PAYLOAD_NAME).open("r+b") as payload:
        payload.seek(30)
        payload.write(b"nothing")
        payload.seek(sizes[0])
        # What follows a PNG is not read.
        payload.write(make_picture(2, 2).ljust(sizes[1], b"\0"))
    found = _found(lint(folder))
    assert found.keys() == {"unreadable", "other_size", "odd_item"}
    assert found["unreadable"][0].startswith("train, row 0: image 0.png: the image bytes cannot be ")
    assert found["other_size"] == ["train, row 1: image 1.png: 2x2, indexed as 8x7"]
    assert found["odd_item"] == ["train, row 3: image line.png: 2x90, 45 times as long as wide"]


def test_places_are_few_and_counts_are_whole(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = write(tmp_path, [words(tokenizer, f"What {number}?", "") for number in range(30)])
    finding = lint(folder).findings["empty_answer"]
    assert (finding.count, len(finding.places)) == (30, MOST_PLACES)
    sampled = lint(folder, sample=4)
    assert (sampled.checked, sampled.documents) == (4, 30)
    assert sampled.findings["empty_answer"].places == [f"train, row {row}" for row in (0, 7, 15, 22)]


@pytest.mark.parametrize("text", ["plain, 100 %\nand\tmore", "caf\u00e9, \u4f60\u597d, \U0001f431\u200d\U0001f466",
                                  "\u2067\u05d0\u2069 is a letter"])  # fmt: skip
def test_usual_text_is_not_odd(text: str) -> None:
    assert list(odd_characters(text)) == []


@pytest.mark.parametrize(("text", "said"), [
    ("\u202eback", "a direction of writing that is begun and not ended, or ended and not begun"),
    ("a\u2069", "a direction of writing that is begun and not ended, or ended and not begun"),
    ("caf\u00c3\u00a9", "'\u00c3\u00a9', UTF-8 that was read as Windows-1252"),
    ("\ufffd\ufffd", "U+FFFD, which stands for bytes that were no text"),
    ("\ue000", "a private-use character, U+E000"),
    ("\x00", "a control character, U+0000"),
    ("\ufdd0", "an unassigned character, U+FDD0"),
])  # fmt: skip
def test_odd_characters_are_named(text: str, said: str) -> None:
    assert list(odd_characters(text)) == [said]


def test_answers_end_at_the_end_token_and_before_a_question() -> None:
    tokens = np.array([1, 5, 6, 2, 2, 7, 8, 5])
    loss = np.array([False, True, True, True, True, False, True, True])
    assert list(answers(tokens, loss, ends=(2,))) == [[5, 6, 2], [2], [8, 5]]
    behind = np.array([5, 2, 9, 1, 9, 6, 2, 9])
    assert list(answers(behind, behind != 1, ends=(2,))) == [[5, 2], [9, 6, 2]], "9 after an end is no answer"
