"""Conversations in the LLaVA form (Liu et al. 2023): one JSON object a line, images and clips in the same folder.

    {"image": "a.png", "conversations": [{"from": "human", "value": "<image> What is it?"},
                                         {"from": "gpt", "value": "A cat."}]}

A file's name without its suffix is the split. `image` may be a list; each mark stands for the next image. Clips, at
<audio>, are in `audio` likewise, and .npy files of features, at <features>, in `features`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from counterpoint.data.index import MARKS
from counterpoint.data.index_writer import Encoded, IndexWriter, Record
from counterpoint.data.payload import Kind
from counterpoint.data.tokenizer import Tokenizer
from counterpoint.errors import DataError

HUMAN, GPT = "human", "gpt"
TURN_END = "\n"
_KINDS = {mark: kind for kind, mark in MARKS.items()}
_ANY_MARK = re.compile("({})".format("|".join(map(re.escape, _KINDS))))


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of a file: the turns as (speaker, text with marks) and the files that the marks stand for, by kind."""

    place: str
    split: str
    turns: tuple[tuple[str, str], ...]
    files: Mapping[Kind, tuple[Path, ...]]


def read_conversations(folder: Path) -> Iterator[Conversation]:
    """All conversations of a folder, files by name; raises DataError naming file and line of a bad record."""
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise DataError(f"{folder}: no *.jsonl file in it; expected LLaVA-style records, one JSON object a line.")
    for path in files:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}", path.stem, folder)


def write_conversations(writer: IndexWriter, folder: Path, tokenizer: Tokenizer) -> None:
    """Add a folder's conversations to an index; raises DataError naming file and line of a bad one."""
    for conversation in read_conversations(folder):
        try:
            writer.add(make_record(conversation, tokenizer))
        except DataError as error:
            raise DataError(f"{conversation.place}: {error}") from error


def make_record(conversation: Conversation, tokenizer: Tokenizer) -> Record:
    """Turn marks into positions, once and for all; what `gpt` says and the end of its turn are targets."""
    tokens = list(tokenizer.start)
    items: list[Encoded] = []
    files = {kind: iter(paths) for kind, paths in conversation.files.items()}
    loss = [False] * len(tokens)
    for speaker, text in conversation.turns:
        for piece in _ANY_MARK.split(text):
            if piece in _KINDS:
                kind = _KINDS[piece]
                items.append(Encoded(len(tokens), _read(kind, next(files[kind])), kind))
            else:
                tokens += tokenizer.encode(piece)
        tokens += [tokenizer.eos] if speaker == GPT else tokenizer.encode(TURN_END)
        loss += [speaker == GPT] * (len(tokens) - len(loss))
    said = TURN_END.join(without_marks(text).strip() for _, text in conversation.turns)
    return Record(tokens, loss, conversation.split, said, items)


def without_marks(text: str) -> str:
    """What is said, without what stands for items."""
    return _ANY_MARK.sub("", text)


def _parse(line: bytes, place: str, split: str, folder: Path) -> Conversation:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not a JSON object ({error}); correct or remove the line.") from error
    turns = _turns(values, place)
    files = {kind: _files(values, kind, place, folder) for kind in MARKS}
    for kind, mark in MARKS.items():
        marks, name = sum(text.count(mark) for _, text in turns), _NAMES[kind]
        if marks != len(files[kind]):
            raise DataError(
                f"{place}: {marks} marks {mark} for {len(files[kind])} {name}s; expected one mark in the text for each "
                f"{name}."
            )
    return Conversation(place, split, turns, files)


def _turns(values: Any, place: str) -> tuple[tuple[str, str], ...]:
    turns = values.get("conversations") if isinstance(values, dict) else None
    if not isinstance(turns, list) or not turns:
        raise DataError(f"{place}: expected an object with a list 'conversations' of at least one turn.")
    for turn in turns:
        if not isinstance(turn, dict) or turn.get("from") not in (HUMAN, GPT) or not isinstance(turn.get("value"), str):
            raise DataError(
                f"{place}: expected turns of the form {{'from': '{HUMAN}' or '{GPT}', 'value': text}}, got {turn}."
            )
    return tuple((turn["from"], turn["value"]) for turn in turns)


_NAMES: dict[Kind, str] = {"image": "image", "audio": "clip", "features": "features file"}
"""What an item of a kind, whose files stand at the key of the kind's name, is called."""


def _files(values: dict[str, Any], kind: Kind, place: str, folder: Path) -> tuple[Path, ...]:
    names = values.get(kind, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{place}: expected '{kind}' to be a file name or a list of them, got {names!r}.")
    for name in names:
        if not (folder / name).is_file():
            raise DataError(f"{place}: {_NAMES[kind]} {folder / name} is missing; correct '{kind}' or add the file.")
    return tuple(folder / name for name in names)


def _read(kind: Kind, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{_NAMES[kind]} {path} cannot be read ({error.strerror}); correct its permissions.") from error
