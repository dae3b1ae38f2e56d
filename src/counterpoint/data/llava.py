"""Conversations in the LLaVA form (Liu et al. 2023): one JSON object a line, its files in the same folder.

    {"image": "a.png", "conversations": [{"from": "human", "value": "<image> What is it?"},
                                         {"from": "gpt", "value": "A cat."}]}

A file's name without its suffix is the split. `image` may be a list; each mark stands for the next image. Clips, at
<audio>, are in `audio` likewise, and .npy files of features, at <features>, in `features`. `video` is the list of the
pictures of a video, all of one size, which stands at one mark <video>; several videos are a list of such lists.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from counterpoint.data.images import image_size
from counterpoint.data.index import MARKS
from counterpoint.data.index_writer import Encoded, IndexWriter, Record
from counterpoint.data.payload import AUDIO, FEATURES, IMAGE, Kind
from counterpoint.data.tokenizer import Tokenizer
from counterpoint.errors import DataError

HUMAN, GPT = "human", "gpt"
TURN_END = "\n"
VIDEO = "video"
VIDEO_MARK = "<video>"
"""What stands for a video in the text; in the index its pictures are an item of kind image."""


class _Form(NamedTuple):
    """What stands at a mark: its kind in the index, what it is called, and what one of its files is called."""

    kind: Kind
    mark: str
    name: str
    file: str


_FORMS = {
    "image": _Form(IMAGE, MARKS[IMAGE], "image", "image"),
    VIDEO: _Form(IMAGE, VIDEO_MARK, "video", "picture"),
    "audio": _Form(AUDIO, MARKS[AUDIO], "clip", "clip"),
    "features": _Form(FEATURES, MARKS[FEATURES], "features file", "features file"),
}
"""By the key of a record at which the files are."""

_KEYS = {form.mark: key for key, form in _FORMS.items()}
_ANY_MARK = re.compile("({})".format("|".join(map(re.escape, _KEYS))))


@dataclass(frozen=True, slots=True)
class Conversation:
    """One line of a file: the turns as (speaker, text with marks), and by key of the record the files of what each mark
    stands for."""

    place: str
    split: str
    turns: tuple[tuple[str, str], ...]
    items: Mapping[str, tuple[tuple[Path, ...], ...]]


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
    waiting = {key: iter(files) for key, files in conversation.items.items()}
    loss = [False] * len(tokens)
    for speaker, text in conversation.turns:
        for piece in _ANY_MARK.split(text):
            if piece in _KEYS:
                key = _KEYS[piece]
                items.append(_encoded(len(tokens), _FORMS[key], next(waiting[key])))
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
    items = {key: _items(values, key, place, folder) for key in _FORMS}
    for key, form in _FORMS.items():
        marks = sum(text.count(form.mark) for _, text in turns)
        if marks != len(items[key]):
            raise DataError(
                f"{place}: {marks} marks {form.mark} for {len(items[key])} {form.name}s; expected one mark in the text "
                f"for each {form.name}."
            )
    return Conversation(place, split, turns, items)


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


def _items(values: dict[str, Any], key: str, place: str, folder: Path) -> tuple[tuple[Path, ...], ...]:
    """The files of every item at a key of a record: one each, or the pictures of a video."""
    given, form = values.get(key, []), _FORMS[key]
    if key == VIDEO:
        expected = "a list of the file names of its pictures, or a list of such lists"
        items = [given] if _are_names(given) and given else given
    else:
        expected = "a file name or a list of them"
        names = [given] if isinstance(given, str) else given
        items = [[name] for name in names] if isinstance(names, list) else names
    if not isinstance(items, list) or not all(_are_names(names) and names for names in items):
        raise DataError(f"{place}: expected '{key}' to be {expected}, got {given!r}.")
    for name in (name for names in items for name in names):
        if not (folder / name).is_file():
            raise DataError(f"{place}: {form.file} {folder / name} is missing; correct '{key}' or add the file.")
    return tuple(tuple(folder / name for name in names) for names in items)


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _encoded(position: int, form: _Form, paths: tuple[Path, ...]) -> Encoded:
    """What stands before a token, read from its files."""
    files = [_read(form, path) for path in paths]
    if len(files) > 1:
        _check_sizes(paths, files)
    return Encoded(position, files[0], form.kind, tuple(files[1:]))


def _check_sizes(paths: Sequence[Path], files: Sequence[bytes]) -> None:
    """Raise DataError, by name, for a picture of a video that is unreadable or not of the first one's size."""
    first = None
    for path, data in zip(paths, files, strict=True):
        try:
            height, width = image_size(data)
        except DataError as error:
            raise DataError(f"picture {path}: {error}") from error
        first = first or (height, width)
        if (height, width) != first:
            raise DataError(
                f"picture {path} is {height}x{width} pixels, but the first of its video, {paths[0]}, is "
                f"{first[0]}x{first[1]}; give all pictures of a video one size."
            )


def _read(form: _Form, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{form.file} {path} cannot be read ({error.strerror}); correct its permissions.") from error
