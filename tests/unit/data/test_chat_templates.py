"""Chat templates: the tokens of transformers, targets counted by hand, nothing lost, nothing executed."""

import datetime
import json
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from counterpoint.data.text.chat import ASSISTANT, SYSTEM, TOOL, USER, Medium, Message, Part, TrainOn
from counterpoint.data.text.content import kind_of
from counterpoint.data.text.kept_chat import folder_chat
from counterpoint.data.text.template_chat import DEFAULT_DATE, TemplateChat
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.data.text.tokenizer_folder import FolderChat
from counterpoint.errors import DataError
from tests.unit.data.chat_folders import FAMILIES, write_folder

IMAGE = Medium("image", ())
VIDEO = Medium("image", (b"1", b"2"))
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = {"tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}]}

MakeChat = Callable[..., TemplateChat]


def open_chat(folder: Path, train_on: TrainOn = "assistant", day: str = DEFAULT_DATE) -> TemplateChat:
    return folder_chat(FolderChat.read(folder), Tokenizer.load(folder / "tokenizer.json"), day, train_on)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("tokenizers")
    return {name: write_folder(base / name.replace(" ", "_"), family) for name, family in FAMILIES.items()}


def user(*parts: Part) -> Message:
    return Message(USER, parts)


def answer(*parts: Part, weight: int = 1, **fields: Any) -> Message:
    return Message(ASSISTANT, parts, weight, fields)


def system(*parts: Part) -> Message:
    return Message(SYSTEM, parts)


def published(message: Message, is_list: bool) -> dict[str, Any]:
    """A message as transformers takes it."""
    parts = [{"type": "text", "text": p} if isinstance(p, str) else {"type": kind_of(p)} for p in message.parts]
    content = parts if is_list or any(isinstance(p, Medium) for p in message.parts) else message.text
    return {"role": message.role, "content": content, **message.fields}


def expected(
    folder: Path, messages: Sequence[Message], tools: Sequence[Any], is_list: bool, is_prompt: bool = False
) -> list[int]:
    transformers = pytest.importorskip("transformers")
    hub = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return list(
        hub.apply_chat_template(
            [published(message, is_list) for message in messages],
            tools=list(tools) or None,
            add_generation_prompt=is_prompt,
            return_dict=False,
        )
    )


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' `strftime_now` on our day."""
    module = pytest.importorskip("transformers.utils.chat_template_utils")

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Day":
            return cls.fromisoformat(DEFAULT_DATE)

    monkeypatch.setattr(module, "datetime", Day)


WORDS = (
    "What",
    " is",
    " in the",
    " picture?",
    "\n",
    "\n\n",
    "  ",
    "A cat.",
    "3",
    "é",
    "漢字",
    "🐈",
    "{{ x }}",
    "'",
    '"',
    "<b>",
)


def conversation(draw: random.Random, name: str) -> tuple[list[Message], list[Any]]:
    """A random conversation of the kinds that a template takes."""

    def words() -> str:
        return "".join(draw.choices(WORDS, k=draw.randint(1, 6))) + draw.choice(("", "x"))

    def asked() -> Message:
        parts: list[Part] = [words()]
        if name in ("qwen2-vl", "gemma3", "llava"):
            parts = [part for _ in range(draw.randint(0, 2)) for part in (IMAGE, words())] or parts
        if name == "qwen2-vl" and draw.random() < 0.3:
            parts.append(VIDEO)
        return user(*parts)

    messages = []
    has_system = name not in ("mistral", "gemma", "mistral merged")
    if has_system and draw.random() < 0.5:
        messages.append(system(words() + "s"))
    has_tools = name in ("qwen2.5", "qwen3", "llama3") and draw.random() < 0.5
    for _ in range(draw.randint(1, 3)):
        messages.append(asked())
        if has_tools and draw.random() < 0.5:
            messages += [answer("" if draw.random() < 0.5 or name == "llama3" else "I ask.", **CALL)]
            messages += [Message(TOOL, ('{"degrees": 3}',))]
        thought = f"<think>\n{words()}\n</think>\n\n" if name == "qwen3" and draw.random() < 0.5 else ""
        messages.append(answer(f"{thought}a{words()}"))
    return messages, [WEATHER] if has_tools else []


@pytest.mark.usefixtures("pinned")
@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_transformers(folders: dict[str, Path], name: str) -> None:
    chat = open_chat(folders[name])
    places = {chat.tokenizer.backend.token_to_id(each) for each in ("<|image_pad|>", "<|video_pad|>", "<image>")}
    places |= {chat.tokenizer.backend.token_to_id("<start_of_image>")} - {None}
    draw = random.Random(name)
    count = with_media = 0
    for _ in range(30):
        messages, tools = conversation(draw, name)
        laid = chat.lay(messages, tools)
        media = [part for message in messages for part in message.parts if isinstance(part, Medium)]
        assert [medium for _position, medium in laid.media] == media or name == "llava"
        assert len(laid.loss) == len(laid.tokens)
        assert any(laid.loss)
        if name == "gemma3" and media:
            continue  # Its processor writes around images after the template; see below.
        hub = expected(folders[name], messages, tools, name == "llava")
        assert list(laid.tokens) == [token for token in hub if token not in places]
        starts = [number for number, token in enumerate(hub) if token in places]
        assert [position for position, _medium in laid.media] == [at - n for n, at in enumerate(starts)]
        prompt = chat.prompt(messages[:-1], tools)
        hub = expected(folders[name], messages[:-1], tools, name == "llava", is_prompt=True)
        assert list(prompt.tokens) == [token for token in hub if token not in places]
        count, with_media = count + 1, with_media + bool(media)
    assert count > 5
    assert (with_media > 3) == (name in ("qwen2-vl", "llava"))
