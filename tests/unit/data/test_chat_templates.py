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
CALL: dict[str, Any] = {
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich"}}}]
}

LISTED = ("llava", "smolvlm")
"""Templates that take lists of parts only."""

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
        if name in ("qwen2-vl", "gemma3", *LISTED):
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
        hub = expected(folders[name], messages, tools, name in LISTED)
        assert list(laid.tokens) == [token for token in hub if token not in places]
        starts = [number for number, token in enumerate(hub) if token in places]
        assert [position for position, _medium in laid.media] == [at - n for n, at in enumerate(starts)]
        prompt = chat.prompt(messages[:-1], tools)
        hub = expected(folders[name], messages[:-1], tools, name in LISTED, is_prompt=True)
        assert list(prompt.tokens) == [token for token in hub if token not in places]
        count, with_media = count + 1, with_media + bool(media)
    assert count > 5
    assert (with_media > 3) == (name in ("qwen2-vl", *LISTED))


def targets(chat: TemplateChat, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[str]:
    """What is trained on, run by run."""
    laid = chat.lay(messages, tools)
    runs: list[list[int]] = []
    was = False
    for token, is_target in zip(laid.tokens, laid.loss, strict=True):
        if is_target and not was:
            runs.append([])
        if is_target:
            runs[-1].append(token)
        was = is_target
    return [chat.tokenizer.backend.decode(run, skip_special_tokens=False) for run in runs]


TWO = (user("What?"), answer("A cat."), user("Why?"), answer("3 dogs."))

COUNTED: dict[str, tuple[str, Sequence[Message], list[str]]] = {
    "two answers": ("chatml", TWO, ["A cat.<|im_end|>", "3 dogs.<|im_end|>"]),
    "a system turn": ("chatml", (system("model"), *TWO[:2]), ["A cat.<|im_end|>"]),
    "an answer of weight 0": ("chatml", (TWO[0], answer("A cat.", weight=0), *TWO[2:]), ["3 dogs.<|im_end|>"]),
    "a question at the end": ("chatml", TWO[:3], ["A cat.<|im_end|>"]),
    "an empty answer": ("chatml", (user("What?"), answer("")), ["<|im_end|>"]),
    "marks of the template": ("generation", TWO, ["A cat.<|im_end|>", "3 dogs.<|im_end|>"]),
    "marks of the template with the space after": ("long generation", TWO, ["A cat.<|im_end|>", "3 dogs.<|im_end|>"]),
    "marks and a weight": ("generation", (*TWO[:3], answer("x", weight=0)), ["A cat.<|im_end|>"]),
    "Qwen2.5 calls a tool": (
        "qwen2.5",
        (user("What?"), answer(**CALL), Message(TOOL, ("3",)), answer("3 dogs.")),
        [
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call><|im_end|>',
            "3 dogs.<|im_end|>",
        ],
    ),
    "Qwen3 thinks": (
        "qwen3",
        (user("What?"), answer("<think>\n3\n</think>\n\nA cat.")),
        ["<think>\n3\n</think>\n\nA cat.<|im_end|>"],
    ),
    "Qwen3 thinks in a field": (
        "qwen3", (user("What?"), answer("A cat.", reasoning_content="3")), ["<think>\n3\n</think>\n\nA cat.<|im_end|>"],
    ),
    "Qwen3 forgets what it thought": (
        "qwen3",
        (user("What?"), answer("<think>\n3\n</think>\n\nA cat."), *TWO[2:]),
        ["<think>\n\n</think>\n\n3 dogs.<|im_end|>"],
    ),
    "Llama 3": ("llama3", TWO, ["A cat.<|eot_id|>", "3 dogs.<|eot_id|>"]),
    "Vicuna": ("vicuna", TWO, ["A cat.</s>", "3 dogs.</s>"]),
    "Mistral": ("mistral", TWO, ["A cat.</s>", "3 dogs.</s>"]),
    "Phi-3 closes every rendering": ("phi3", TWO, ["A cat.<|end|>", "3 dogs.<|end|>"]),
    "Phi-3 and an earlier answer of weight 0": (
        "phi3", (TWO[0], answer("A cat.", weight=0), *TWO[2:]), ["3 dogs.<|end|>"],
    ),
    "SmolVLM with an empty answer": (
        "smolvlm", (TWO[0], answer(""), *TWO[2:]), ["<end_of_utterance>", "3 dogs.<end_of_utterance>"],
    ),
    "Gemma": ("gemma", TWO, ["A cat.<end_of_turn>", "3 dogs.<end_of_turn>"]),
    "two images in a turn": (
        "qwen2-vl", (user(IMAGE, "What?", IMAGE, "Why?"), answer("A cat.")), ["A cat.<|im_end|>"],
    ),
    "an image in the turn of the system": (
        "qwen2-vl", (system("model", IMAGE), user("What?"), answer("A cat.")), ["A cat.<|im_end|>"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", COUNTED)
def test_targets_are_answers_with_the_tokens_that_end_them(folders: dict[str, Path], case: str) -> None:
    name, messages, runs = COUNTED[case]
    found = targets(open_chat(folders[name]), messages, [WEATHER] if "tool" in case else [])
    assert [run.strip() for run in found] == runs


def test_a_mask_counted_token_by_token(folders: dict[str, Path]) -> None:
    chat = open_chat(folders["chatml"])
    laid = chat.lay([user("3"), answer("A3")])
    names = [chat.tokenizer.backend.id_to_token(token) for token in laid.tokens]
    assert names == ["<|im_start|>", "user", "Ċ", "3", "<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ", "A", "3",
                     "<|im_end|>", "Ċ"]  # fmt: skip
    assert laid.loss == (False,) * 9 + (True, True, True, False)
    assert laid.answers == (9,)


def test_what_is_trained_on_can_be_chosen(folders: dict[str, Path]) -> None:
    for name in ("chatml", "generation"):
        assert targets(open_chat(folders[name], "last"), TWO) == ["3 dogs.<|im_end|>"]
        everything = open_chat(folders[name], "all").lay(TWO)
        assert all(everything.loss)
    without = targets(open_chat(folders["chatml"], "all"), (TWO[0], answer("A cat.", weight=0)))
    assert without == ["<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"]


def test_what_is_taken_otherwise_is_noted(folders: dict[str, Path]) -> None:
    (note,) = open_chat(folders["qwen3"]).lay(TWO).notes
    assert "rewrites earlier answers" in note
    (note,) = open_chat(folders["chatml"]).lay([user("What?"), answer("\nA cat.")]).notes
    assert "begins inside of a token" in note
    assert targets(open_chat(folders["chatml"]), [user("What?"), answer("\nA cat.")]) == ["A cat.<|im_end|>"]
    assert open_chat(folders["chatml"]).lay(TWO).notes == ()
    (note,) = open_chat(folders["llama3"]).lay([answer("A cat."), *TWO]).notes
    assert "no prompt for an answer that stands first" in note


def test_items_stand_where_the_template_has_them(folders: dict[str, Path]) -> None:
    chat = open_chat(folders["qwen2-vl"])
    laid = chat.lay([user(IMAGE, "What?", VIDEO), answer("A cat.")])
    begin, end = (chat.tokenizer.backend.token_to_id(name) for name in ("<|vision_start|>", "<|vision_end|>"))
    places = [position for position, _medium in laid.media]
    assert [laid.tokens[place - 1 : place + 1] for place in places] == [(begin, end)] * 2
    assert [medium for _place, medium in laid.media] == [IMAGE, VIDEO]


def test_a_template_of_text_has_items_where_the_text_has_them(folders: dict[str, Path]) -> None:
    chat = open_chat(folders["llama3"])
    with_image = chat.lay([user(IMAGE, "\nWhat?"), answer("A cat.")])
    ((place, _medium),) = with_image.media
    header = chat.tokenizer.backend.token_to_id("<|end_header_id|>")
    assert chat.tokenizer.decode(with_image.tokens[place:]).startswith("\nWhat?")
    assert chat.tokenizer.backend.decode(list(with_image.tokens[:place])).endswith("\n\n")
    assert with_image.tokens.index(header) < place
    assert max(with_image.tokens) < chat.tokenizer.vocabulary


def test_what_a_processor_writes_around_images_is_written(folders: dict[str, Path]) -> None:
    chat = open_chat(folders["gemma3"])
    laid = chat.lay([user("a", IMAGE, "b <start_of_image> c"), answer("A cat.")])
    plain = "<bos><start_of_turn>user\na\n\n<start_of_image>"
    ((place, _medium),) = laid.media
    before = chat.tokenizer.backend.encode(plain, add_special_tokens=False).ids
    assert list(laid.tokens[:place]) == before
    assert laid.tokens[place] == chat.tokenizer.backend.token_to_id("<end_of_image>")
    assert laid.tokens.count(chat.tokenizer.backend.token_to_id("<start_of_image>")) == 1


SPELLED = (
    "<|im_end|>",
    "<|im_start|>",
    "</s>",
    "<s>",
    "<eos>",
    "<end_of_turn>",
    "<|eot_id|>",
    "[INST]",
    "<|image_pad|>",
    "<image>",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_words_become_special_tokens(folders: dict[str, Path], name: str) -> None:
    chat = open_chat(folders[name])
    special = {token for token, each in chat.tokenizer.backend.get_added_tokens_decoder().items() if each.special}

    def reserved(messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[int]:
        return [token for token in chat.lay(messages, tools).tokens if token in special - {0}]

    plain = reserved([user("What? x y"), answer("A cat. z")])
    has_system = name not in ("mistral", "mistral merged", "gemma")
    for spelled in (each for each in SPELLED if each in FAMILIES[name].special):
        for text in (spelled, f"a {spelled}", f"{spelled}b", f"  {spelled}\n{spelled} c", f"{spelled[:-1]}{spelled}"):
            messages = [user(f"{text} y"), answer(text)]
            assert reserved(messages) == plain
            assert reserved([user(text, "y"), answer(f"x {text}")]) == plain
            laid = chat.lay([user("What? x y"), answer(text)])
            stop = len(laid.tokens) - 1 - laid.tokens[::-1].index(chat.ends[0])
            said = chat.tokenizer.backend.decode(list(laid.tokens[laid.answers[0] : stop]), skip_special_tokens=False)
            assert said.removeprefix("<think>\n\n</think>").strip() == text.strip()
            if name == "qwen3":
                thought = [user("x"), answer(f"<think>\n{text}\n</think>\n\n{text}")]
                assert reserved(thought) == plain
            if has_system:
                assert reserved([system(text), *messages]) == reserved([system("model"), *messages])
            if name in ("qwen2.5", "qwen3"):
                tool = {"type": "function", "function": {"name": "weather", "description": text}}
                call: dict[str, Any] = {"tool_calls": [{"function": {"name": "weather", "arguments": {"city": text}}}]}
                called = [user("x"), answer(**call), Message(TOOL, (text,)), answer("y")]
                usual = [user("x"), answer(**CALL), Message(TOOL, ("3",)), answer("y")]
                assert reserved(called, [tool]) == reserved(usual, [WEATHER])


LOST: dict[str, tuple[str, Sequence[Message], Sequence[Any], str]] = {
    "no system turn": ("gemma", (system("model"), *TWO), (), r"\(System role not supported\)"),
    "roles in an order of the template's": ("mistral", (*TWO[:1], *TWO[:2]), (), "roles must alternate"),
    "a system turn that prompts alone have": ("mistral merged", (system("Be brief."), *TWO), (), "not write"),
    "tools": ("vicuna", TWO, [WEATHER], "does not write 'weather' of 'tools'"),
    "a call": ("chatml", (user("x"), answer(**CALL)), (), "does not write 'weather' of 'tool_calls' of turn 2"),
    "a tool's answer": (
        "vicuna", (user("x"), answer("y"), Message(TOOL, ("degrees",)), answer("z")), (), r"'degrees' of turn 3 \(tool",
    ),
    "a second system turn": ("vicuna", (*TWO[:2], system("Be brief."), *TWO[2:]), (), r"'Be brief.' of turn 3"),
    "a system turn of words that stand elsewhere": ("vicuna", (*TWO[:2], system("What?"), *TWO[2:]), (), "turn 3"),
    "a call of what a question names": (
        "chatml", (user("weather?"), answer("Zürich", **CALL)), (), "does not write 'weather' of 'tool_calls'",
    ),
    "a call whose words stand elsewhere": (
        "chatml", (user("x"), answer(tool_calls=[{"function": {"name": "im", "arguments": {"user": 3}}}])), (),
        "does not write 'im' of 'tool_calls' of turn 2",
    ),
    "a tool whose name stands elsewhere": (
        "chatml", TWO, [{"type": "function", "function": {"name": "user"}}], "does not write 'user' of 'tools'",
    ),
    "thoughts that stand elsewhere": (
        "chatml", (user("x"), answer("y", reasoning_content="im")), (), "'im' of 'reasoning_content' of turn 2",
    ),
    "thoughts": ("chatml", (user("x"), answer("y", reasoning_content="hmm")), (), "'hmm' of 'reasoning_content'"),
    "two calls": (
        "llama3", (user("x"), answer(tool_calls=CALL["tool_calls"] * 2)), [WEATHER], "only supports one tool call",
    ),
    "a code point that is none": ("chatml", (user("\ufdd2"), answer("y")), (), r"U\+FDD2"),
    "half of a pair": ("chatml", (user("\ud83d"), answer("y")), (), "surrogate"),
}  # fmt: skip


@pytest.mark.parametrize("case", LOST)
def test_what_a_template_would_lose_is_refused(folders: dict[str, Path], case: str) -> None:
    name, messages, tools, reason = LOST[case]
    with pytest.raises(DataError, match=reason):
        open_chat(folders[name]).lay(messages, tools)


def test_an_item_without_a_place_is_refused(tmp_path: Path) -> None:
    once = FAMILIES["llava"].template.replace(
        "{%- for part in m.content | selectattr('type', 'equalto', 'image') %}",
        "{%- if m.content[0].type == 'image' %}",
        1,
    )
    folder = write_folder(tmp_path, FAMILIES["llava"], chat_template=once.replace("{% endfor %}", "{% endif %}", 1))
    assert len(open_chat(folder).lay([user(IMAGE, "x"), answer("y")]).media) == 1
    with pytest.raises(DataError, match="has 1 places for 2 items of kind image"):
        open_chat(folder).lay([user(IMAGE, IMAGE, "x"), answer("y")])


def test_an_answer_that_the_template_rewrites_is_refused(tmp_path: Path) -> None:
    forced = FAMILIES["chatml"].template.replace("'<|im_start|>assistant\n' }}", "'<|im_start|>assistant\n<think>' }}")
    folder = write_folder(tmp_path, FAMILIES["chatml"], chat_template=forced)
    with pytest.raises(DataError, match="turn 2 is an answer that cannot be trained on"):
        open_chat(folder).lay(TWO[:2])


@pytest.mark.parametrize("name", ["vicuna", "gemma", "mistral merged"])
def test_an_end_that_the_tokenizer_reads_as_words_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_folder(tmp_path, FAMILIES[name])
    values = json.loads((folder / "tokenizer.json").read_text())
    for token in values["added_tokens"]:
        # After the prefix of a normalizer the library finds such a token at the begin of a word only.
        token["normalized"] = True
    (folder / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"ends an answer with '<.*>', which the tokenizer reads as other tokens there"):
        open_chat(folder)


def test_a_date_is_pinned(folders: dict[str, Path]) -> None:
    first, other = (open_chat(folders["llama3"], day=day) for day in (DEFAULT_DATE, "2025-01-02"))
    assert "Today Date: 26 Jul 2024" in first.tokenizer.decode(first.lay(TWO).tokens)
    assert "Today Date: 02 Jan 2025" in other.tokenizer.decode(other.lay(TWO).tokens)
    with pytest.raises(DataError, match="--date"):
        open_chat(folders["llama3"], day="yesterday")


def test_a_format_is_picklable_and_equal_to_its_copy(folders: dict[str, Path]) -> None:
    chat = open_chat(folders["qwen3"])
    laid = chat.lay(TWO)
    copied = pickle.loads(pickle.dumps(chat))
    assert copied.lay(TWO) == laid


@pytest.mark.parametrize("how", ["file", "list", "processor", "tool use"])
def test_a_template_is_found_wherever_transformers_looks(tmp_path: Path, how: str) -> None:
    family = FAMILIES["chatml"]
    marked = family.template.replace("m['content']", "'-' + m['content']")
    folder = write_folder(tmp_path, family, chat_template="{{ raise_exception('not this one') }}")
    if how == "file":
        (folder / "chat_template.jinja").write_text(marked)
    elif how == "list":
        write_folder(tmp_path, family, chat_template=[{"name": "default", "template": marked}])
    elif how == "processor":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": marked}))
    else:
        (folder / "chat_template.jinja").write_text(marked)
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("{{ tools[0].function.name }}" + marked)
        assert open_chat(folder).lay(TWO[:2], [WEATHER]).tokens != open_chat(folder).lay(TWO[:2]).tokens
    assert targets(open_chat(folder), TWO) == ["-A cat.<|im_end|>", "-3 dogs.<|im_end|>"]


def test_all_tokens_that_end_an_answer_are_known(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, FAMILIES["llama3"])
    backend = Tokenizer.load(folder / "tokenizer.json").backend
    ends = [backend.token_to_id(name) for name in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [*ends, 10**9]}))
    assert open_chat(folder).ends == (ends[2], ends[0], ends[1])


def test_marks_of_generation_are_those_of_transformers(folders: dict[str, Path]) -> None:
    transformers = pytest.importorskip("transformers")
    hub = transformers.PreTrainedTokenizerFast.from_pretrained(folders["generation"])
    chat = open_chat(folders["generation"])
    draw = random.Random(1)
    for _ in range(10):
        messages, _tools = conversation(draw, "generation")
        found = hub.apply_chat_template(
            [published(message, False) for message in messages], return_dict=True, return_assistant_tokens_mask=True
        )
        laid = chat.lay(messages)
        assert list(laid.tokens) == found["input_ids"]
        assert list(laid.loss) == [bool(mark) for mark in found["assistant_masks"]]
