"""The records of a folder, or of one file: JSON lines, or one JSON array, each with the line that it begins in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from counterpoint.data.prepare.media import Roots
from counterpoint.data.prepare.records import Parsed, parse_record
from counterpoint.data.text.chat import Message
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError

_LINES, _ARRAY = ".jsonl", ".json"
_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Conversation:
    """One record: its file and line, its split, its turns, and what of it was not read."""

    place: str
    split: str
    messages: tuple[Message, ...]
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The files of a dataset by name: *.jsonl, and *.json that hold an array; `others` are *.json that hold none."""

    files: tuple[Path, ...]
    others: tuple[Path, ...] = ()

    @classmethod
    def of(cls, source: Path) -> "RecordFiles":
        """The files of a folder, or one file; raises DataError if there is none."""
        if source.is_file():
            return cls((source,))
        files = sorted(source.glob(f"*{_LINES}"))
        arrays = sorted(source.glob(f"*{_ARRAY}"))
        found = [path for path in arrays if _begins_an_array(path)]
        if not files and not found:
            raise DataError(
                f"{source}: no *.jsonl file in it, nor a *.json with an array; expected records of conversations, one "
                "JSON object a line."
            )
        return cls(tuple(sorted([*files, *found])), tuple(path for path in arrays if path not in found))

    def conversations(self, roots: Roots, split: str | None = None) -> Iterator[Conversation]:
        """All conversations, or those of a split; raises DataError naming file and line of a bad record."""
        for path in self.files:
            if split in (None, path.stem):
                yield from _conversations(path, roots)


def _conversations(path: Path, roots: Roots) -> Iterator[Conversation]:
    try:
        check_text(path.stem)
    except DataError as error:
        raise DataError(f"{path!r}: {error}") from None
    is_empty = True
    for line, values in _values(path):
        is_empty = False
        place = f"{path}:{line}"
        try:
            parsed: Parsed = parse_record(values, roots.find)
        except DataError as error:
            raise DataError(f"{place}: {error}") from error
        yield Conversation(place, path.stem, parsed.messages, parsed.labels, parsed.words)
    if is_empty:
        raise DataError(f"{path}: holds no record, expected at least one; fill the file or remove it.")


def _values(path: Path) -> Iterator[tuple[int, object]]:
    """The content of a file with the line that each record begins in."""
    try:
        if path.suffix == _ARRAY:
            yield from _array(path)
            return
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _load(line, f"{path}:{number}")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct its permissions.") from error


def _load(line: bytes, place: str) -> object:
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not a JSON object ({error}); correct or remove the line.") from error


def _array(path: Path) -> Iterator[tuple[int, object]]:
    """The elements of one array; only its text and one element are in memory at a time."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}), expected a JSON array; encode it again.") from error
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
    at, line, counted = _after_space(text, 0), 1, 0
    if text[at : at + 1] != "[":
        raise DataError(f"{path}: is no JSON array, expected one of records; write one object a line to a .jsonl file.")
    at = _after_space(text, at + 1)
    is_first = True
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        if not is_first:
            if text[at : at + 1] != ",":
                raise DataError(f"{path}:{line}: not JSON (expected ',' or ']' after a record); correct the file.")
            at = _after_space(text, at + 1)
            line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{line}: not a JSON object ({error}); correct or remove the record.") from error
        yield line, value
        is_first, at = False, _after_space(text, end)
    if _after_space(text, at + 1) != len(text):
        raise DataError(f"{path}: goes on after its array, expected nothing there; correct the file.")


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _begins_an_array(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(64).decode("utf-8-sig", errors="replace").lstrip(_SPACE).startswith("[")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); correct its permissions.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; raises DataError if a key occurs twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for number, (key, _value) in enumerate(pairs) if key in dict(pairs[:number]))
        raise ValueError(f"the key {twice!r} comes twice")
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
