"""How conversations are laid out: a prompt is always what training has before the answer."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.data.prepare.command import PrepareSummary
from counterpoint.data.text.chat import CaptionChat, Medium, Message, PlainChat
from counterpoint.data.text.formats import FORMATS, chat_format
from counterpoint.data.text.tokenizer import BOS, EOS, Tokenizer, train_tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import MANIFEST_NAME, Index
from counterpoint.sources.prepared.part import Encoded, Record
from tests.unit.items import MakeIndex, MakePicture
from tests.unit.older_index import make_older

words = st.text(st.sampled_from("ab </s>\n\u00e9"), max_size=6)
parts = st.lists(st.one_of(words, st.just(Medium("image", ()))), max_size=4).map(tuple)
conversations = st.lists(st.builds(Message, st.sampled_from(("system", "user", "assistant")), parts), max_size=7)


@pytest.fixture(scope="module", params=[True, False], ids=["with a begin token", "without"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = train_tokenizer(["a b"], 270, tmp_path_factory.mktemp("chat") / "tokenizer.json")
    return made if request.param else replace(made, bos=None)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=conversations)
def test_a_prompt_is_what_stands_before_the_answer(tokenizer: Tokenizer, name: str, messages: list[Message]) -> None:
    chat = FORMATS[name](tokenizer)
    laid = chat.lay(messages)
    spoken = [number for number, message in enumerate(messages) if message.role == "assistant"]
    assert len(laid.answers) == len(spoken)
    assert len(laid.tokens) == len(laid.loss)
    for answer, number in enumerate(spoken):
        start = laid.answers[answer]
        prompt = chat.prompt(messages[:number])
        before = laid.before(answer)
        assert prompt.tokens == before.tokens == laid.tokens[:start]
        own = len([part for part in messages[number].parts if isinstance(part, Medium)])
        assert prompt.media == before.media[: len(prompt.media)] == laid.media[: len(prompt.media)]
        assert len(prompt.media) == sum(isinstance(p, Medium) for m in messages[:number] for p in m.parts)
        assert len(before.media) <= len(prompt.media) + own
        said = "".join(part for part in messages[number].parts if isinstance(part, str))
        stop = laid.tokens.index(chat.ends[0], start)
        assert tokenizer.decode(laid.tokens[start:stop]) == said
        assert all(laid.loss[start : stop + 1])
        assert not (start and laid.loss[start - 1] and laid.tokens[start - 1] != chat.ends[0])
    assert sum(laid.loss) == sum(laid.tokens.index(chat.ends[0], start) + 1 - start for start in laid.answers)


def test_the_formats_as_they_are_read(tokenizer: Tokenizer) -> None:
    picture = Medium("image", ())
    messages = [Message("user", (picture, "a")), Message("user", ("b", picture)), Message("assistant", ("ab",))]
    begin = BOS if tokenizer.bos is not None else ""
    found = {}
    for chat in (PlainChat(tokenizer), CaptionChat(tokenizer)):
        laid = chat.lay(messages)
        found[chat.name] = (
            tokenizer.backend.decode(list(laid.tokens), skip_special_tokens=False),
            [position - len(tokenizer.start) for position, _medium in laid.media],
        )
    assert found == {
        "plain": (f"{begin}a\nb\nab{EOS}", [0, 3]),
        "captions": (f"{begin}abab{EOS}", [-len(tokenizer.start), 2]),
    }


def test_an_index_says_how_it_is_laid_out(emoji: PrepareSummary, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(emoji.out / "tokenizer.json")
    assert chat_format(Index(emoji.out), tokenizer).name == "captions"
    old = tmp_path / "old"
    old.mkdir()
    for file in emoji.out.iterdir():
        shutil.copy(file, old)
    make_older(old, 4)
    assert chat_format(Index(old), tokenizer).name == "captions", "an older version does not say it, but shows it"


def test_conversations_of_an_older_version_are_plain(
    make_index: MakeIndex, make_picture: MakePicture, tokenizer: Tokenizer
) -> None:
    begin = list(tokenizer.start)
    record = Record([*begin, 5], [False] * len(begin) + [True], "train", "", [Encoded(len(begin), make_picture(8, 8))])
    folder = make_index([record])
    make_older(folder, 5)
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest | {"chat": "other"}))
    with pytest.raises(
        DataError, match="laid out as 'other', expected one of plain, captions, template; prepare it again"
    ):
        chat_format(Index(folder), tokenizer)
    del manifest["chat"]
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest | {"version": 4}))
    assert chat_format(Index(folder), tokenizer).name == "plain"
