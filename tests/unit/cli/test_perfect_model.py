"""A model that knows the rows of training by heart writes exactly the truth, through `evaluate` and `generate`.

It stands on rows alone: the ids, and the pixels at their places. Rows laid otherwise than in training it does not know.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as checked
from hypothesis import strategies as st
from PIL import Image

from counterpoint.api import data_lint
from counterpoint.config.load import load_config
from counterpoint.data.prepare.command import prepare
from counterpoint.data.prepare.job import make_record
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.prepare.record_files import Conversation
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.text.chat import Medium, Message, Part
from counterpoint.data.text.formats import FORMATS, dataset_format
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.inference.plain import PlainModel, Prompt
from counterpoint.inference.prompts import answers_of, laid_prompt, prompt_before
from counterpoint.modalities.images.patches import PatchPayload
from counterpoint.modalities.images.spec import ImageConfig, ImageIntake
from counterpoint.setup.data import intakes_of
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.source import PreparedSource
from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.cli.conftest import Command, write
from tests.unit.data.chat_folders import FAMILIES, write_folder

ROWS = 256
LONG = "".join(chr(97 + (7 * number**2 + 3 * number) % 26) for number in range(90))
"""An answer of more than 48 tokens."""

CHATS: list[tuple[list[str], list[tuple[str, str]]]] = [
    (["red.png"], [("<image> What is it?", "A square."), ("Is it red?", "Yes."), ("", "It is."), ("Sure?", "")]),
    (["blue.png", "wide.png"], [("Between <image> and <image>, which?", "The second, of <eos>."), ("Why?", "\u00e9")]),
    (["wide.png"], [("And this?<image>", LONG), ("Again:", LONG[1:])]),
    ([], [("What does <image> mean?", "A <video>, or a picture.")]),
]  # fmt: skip


class ByHeart:
    """Scores of 1 for what follows in training, and for the end token where nothing known goes before."""

    def __init__(self, source: PreparedSource, end: int, vocabulary: int) -> None:
        self.known = []
        for index in range(len(source)):
            items = source.document(index).items
            pixels = [(item.position, _pixels(source.item(index, which))) for which, item in enumerate(items)]
            self.known.append((source.text(index).ids, pixels))
        self.end, self.vocabulary, self.asked = end, vocabulary, 0

    def encode(self, prompts: Sequence[Prompt]) -> list[Any]:
        return [[(item.position, _pixels(payload)) for item, payload in prompt.items] for prompt in prompts]

    def next_logits(self, ids: Sequence[np.ndarray], features: Sequence[Any]) -> torch.Tensor:
        logits = torch.zeros(len(ids), self.vocabulary)
        for row, (known, seen) in enumerate(zip(ids, features, strict=True)):
            logits[row, self._next(known, seen)] = 1
        self.asked += len(ids)
        return logits

    def _next(self, ids: np.ndarray, seen: list[tuple[int, bytes]]) -> int:
        for rows, pixels in self.known:
            before = [item for item in pixels if item[0] < len(ids)]
            if len(rows) > len(ids) and (rows[: len(ids)] == ids).all() and before == seen:
                return int(rows[len(ids)])
        return self.end


def _pixels(payload: object) -> bytes:
    assert isinstance(payload, PatchPayload)
    return payload.patches.tobytes()


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The conversations as a folder, and their index in `index`."""
    folder = tmp_path_factory.mktemp("chats")
    for name, size in (("red", (8, 8)), ("blue", (8, 8)), ("wide", (8, 4))):
        Image.new("RGB", size, "red" if name == "wide" else name).save(folder / f"{name}.png")
    lines = []
    for images, talk in CHATS:
        turns = [{"from": who, "value": text} for pair in talk for who, text in zip(("human", "gpt"), pair)]
        lines.append(json.dumps({"image": images, "system": "Be brief.", "conversations": turns}) + "\n")
    for split in ("train", "held_out"):
        (folder / f"{split}.jsonl").write_text("".join(lines))
    prepare(str(folder), folder / "index", PrepareOptions(vocabulary=259))
    return folder


@pytest.fixture
def run(settings: dict[str, Any], chats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on the conversations whose model knows them by heart."""
    return _run_by_heart(settings, chats / "index", tmp_path / "run", monkeypatch)


def _run_by_heart(
    settings: dict[str, Any], index: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, rows: int = ROWS
) -> Path:
    settings["data"] |= {
        "train": [{"path": str(index)}], "evaluation": [{"path": str(index), "split": "held_out"}],
        "tokenizer": str(index / "tokenizer.json"), "sequence_tokens": rows,
    }  # fmt: skip
    checkpoint_folder(folder, 2).mkdir(parents=True)
    config = load_config(write(settings, folder / "config.yaml"))
    tokenizer = Tokenizer.load(index / "tokenizer.json")
    source = PreparedSource(index, "train", 0, intakes_of(config), rows)
    end = dataset_format(index, tokenizer).ends[0]
    model = ByHeart(source, end, tokenizer.vocabulary)
    monkeypatch.setattr(PlainModel, "load", lambda *_arguments: model)
    return folder


def test_every_answer_of_an_evaluation_is_exact(counterpoint: Command, run: Path) -> None:
    ended = counterpoint("evaluate", run)
    assert ended.code == 0, ended.err
    assert "exact match: 100.0 %" in ended.out
    rows = json.loads((run / "evaluation.json").read_text())["splits"]["held_out"]
    found = [(row["index"], row["answer"], row["truth"], row["written"]) for row in rows]
    assert found == [
        (index, number, answer, answer)
        for index, (_images, talk) in enumerate(CHATS)
        for number, (_question, answer) in enumerate(talk)
    ]


def test_an_evaluation_keeps_to_what_its_entry_says(counterpoint: Command, run: Path) -> None:
    """Of the first two documents alone, each of at most as many rows as training would read."""
    given = ["data.evaluation.0.take=2", "data.evaluation.0.sequence_tokens=40"]
    write(load_config(run / "config.yaml", given).resolved(), run / "config.yaml")
    ended = counterpoint("evaluate", run)
    assert ended.code == 0, ended.err
    rows = json.loads((run / "evaluation.json").read_text())["splits"]["held_out"]
    assert {row["index"] for row in rows} == {0, 1}
    assert len(rows) < sum(len(talk) for _images, talk in CHATS[:2]), "later answers lie beyond the cut"


@pytest.mark.parametrize("chat", range(len(CHATS)))
def test_generate_writes_the_answer_to_every_turn(counterpoint: Command, run: Path, chats: Path, chat: int) -> None:
    images, talk = CHATS[chat]
    asked = [argument for name in images for argument in ("--image", chats / name)]
    asked += [argument for question, _answer in talk for argument in ("--prompt", question)]
    ended = counterpoint("generate", run, "--system", "Be brief.", *asked)
    assert ended.code == 0, ended.err
    assert ended.out == "".join(f"{answer}\n" for _question, answer in talk)


@pytest.mark.parametrize("family", ["qwen2-vl", "llama3", "phi3", "long generation"])
def test_prompts_are_those_of_the_chat_template_that_training_had(
    counterpoint: Command,
    settings: dict[str, Any],
    chats: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    family: str,
) -> None:
    tokenizer = write_folder(tmp_path / "tokenizer", FAMILIES[family])
    index = tmp_path / "index"
    ended = counterpoint("prepare", chats, index, "--tokenizer", tokenizer, "--date", "2025-01-02")
    assert "laid out by the chat template" in ended.out, ended.err
    shutil.rmtree(tokenizer)
    run = _run_by_heart(settings, index, tmp_path / "run", monkeypatch, rows=2 * ROWS)
    ended = counterpoint("evaluate", run)
    assert "exact match: 100.0 %" in ended.out, ended.err
    judged = json.loads((run / "evaluation.json").read_text())["splits"]["held_out"]
    answers = [answer for _images, talk in CHATS for _question, answer in talk]
    assert [row["truth"] for row in judged] == answers, "what stands after an answer's end is none"
    assert data_lint(index).findings["empty_answer"].count == 2 * answers.count("")
    images, talk = CHATS[0]
    asked = [argument for name in images for argument in ("--image", chats / name)]
    asked += [argument for question, _answer in talk for argument in ("--prompt", question)]
    assert counterpoint("generate", run, "--system", "Be brief.", *asked).out == "".join(f"{a}\n" for _q, a in talk)
    assert counterpoint("generate", run, "--format", "plain", "--system", "Be brief.", *asked).out == "\n" * len(talk)


def test_images_without_marks_stand_first_in_the_turn(counterpoint: Command, run: Path, chats: Path) -> None:
    prompt = ("--system", "Be brief.", "--prompt", " What is it?")
    assert counterpoint("generate", run, "--image", chats / "red.png", *prompt).out == "A square.\n"
    assert counterpoint("generate", run, "--image", chats / "blue.png", *prompt).out == "\n", "another picture"
    assert counterpoint("generate", run, *prompt).out == "\n"


def test_other_numbers_of_marks_and_images_are_refused(counterpoint: Command, run: Path, chats: Path) -> None:
    ended = counterpoint("generate", run, "--image", chats / "red.png", "--prompt", "<image><image>")
    assert ended.code == 2
    assert "--prompt: 2 marks <image> for 1 images, expected one for each" in ended.err


def test_what_the_model_never_saw_is_not_exact(counterpoint: Command, run: Path, chats: Path, tmp_path: Path) -> None:
    """The test above can fail: one letter or one pixel elsewhere and nothing is known."""
    (tmp_path / "other").mkdir()
    for file in chats.glob("*.*"):
        (tmp_path / "other" / file.name).write_bytes(file.read_bytes().replace(b"Be brief.", b"Be quick."))
    tokenizer = chats / "index" / "tokenizer.json"
    prepare(str(tmp_path / "other"), tmp_path / "index", PrepareOptions(tokenizer=tokenizer))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(chats / "index"), str(tmp_path / "index")))
    assert "exact match: 11.1 %" in counterpoint("evaluate", run).out, "the answer of no words alone"


def test_a_limit_makes_longer_truths_wrong_and_is_said(counterpoint: Command, run: Path, chats: Path) -> None:
    tokenizer = Tokenizer.load(chats / "index" / "tokenizer.json")
    lengths = [len(tokenizer.encode(answer)) for _images, talk in CHATS for _question, answer in talk]
    assert max(lengths) > 48
    limit = sorted(lengths)[len(lengths) // 2]
    ended = counterpoint("evaluate", run, "--max-tokens", limit)
    longer = sum(length > limit for length in lengths)
    assert f"never exact: {longer} truths are longer than --max-tokens" in ended.out
    assert f"exact match: {100 * (1 - longer / len(lengths)):.1f} %" in ended.out


def test_drawn_tokens_are_the_same_whatever_is_written_beside(counterpoint: Command, run: Path) -> None:
    """A score of 1 among zeros is often not drawn at temperature 1, nearly always at a low one."""
    found = {}
    for options in (("--temperature", "1", "--seed", "3"), ("--temperature", "1", "--seed", "4"),
                    ("--temperature", "0.001"), ("--temperature", "1", "--top-p", "0.001")):  # fmt: skip
        assert counterpoint("evaluate", run, *options).code == 0
        found[options] = json.loads((run / "evaluation.json").read_text())["splits"]["held_out"]
    first, second, cold, narrow = found.values()
    assert first != second
    assert [row["written"] for row in first] != [row["truth"] for row in first]
    assert [row["written"] for row in cold] == [row["truth"] for row in cold]
    assert narrow == cold
    for option, value in (("--temperature", "-1"), ("--top-p", "0"), ("--seed", "-1")):
        assert counterpoint("generate", run, option, value).code == 2


words = st.text(st.sampled_from("ab <>/s\u00e9\n"), max_size=5)
pictures = st.sampled_from(["red.png", "wide.png"])
asked = st.builds(
    Message, st.sampled_from(("system", "user")), st.lists(st.one_of(words, pictures), max_size=4).map(tuple)
)
answered = st.builds(Message, st.just("assistant"), st.tuples(words))


def _drawn(chats: Path, part: str) -> Part:
    return Medium("image", (chats / part,)) if part.endswith(".png") else part


@checked(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(st.one_of(asked, answered), min_size=1, max_size=6), name=st.sampled_from(sorted(FORMATS)))
def test_a_prompt_has_the_rows_that_training_has_before_each_answer(
    chats: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[Message], name: str
) -> None:
    tokenizer = Tokenizer.load(chats / "index" / "tokenizer.json")
    takers = {"vision": ImageIntake("vision", ImageConfig(size=8, max_patches=4), patch=4)}
    messages = [Message(m.role, tuple(_drawn(chats, str(part)) for part in m.parts)) for m in drawn]
    chat = FORMATS[name](tokenizer)
    folder = tmp_path_factory.mktemp("drawn") / "index"
    with IndexWriter(folder) as writer:
        (writer.folder / "tokenizer.json").write_text("{}")
        writer.add(make_record(Conversation("", "train", tuple(messages)), chat, Roots(chats), PrepareOptions())[0])
        writer.publish()
    source = PreparedSource(folder, "train", 0, takers, ROWS)
    spoken = [number for number, message in enumerate(messages) if message.role == "assistant"]
    answers = answers_of(source.text(0), chat.ends)
    assert len(answers) == len(spoken)
    for number, answer in zip(spoken, answers):
        trained = prompt_before(source, 0, answer)
        given = laid_prompt(chat.prompt(messages[:number]), {"image": takers["vision"]})
        assert given.ids.tolist() == trained.ids.tolist()
        assert [(item, _pixels(payload)) for item, payload in given.items] == [
            (item, _pixels(payload)) for item, payload in trained.items
        ]
        assert (
            tokenizer.decode(source.text(0).ids[answer.start : answer.start + answer.tokens]) == messages[number].text
        )
