"""What a chat template wrote, and which of it are words of the conversation.

Words carry marks into the template: code points that no text may have, around the words of each part and before each
special token that they spell. Marks are taken out again; a rendering without marks must be the same.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from counterpoint.data.text.sandbox import GENERATED, GENERATED_END
from counterpoint.errors import DataError

PLACE = "\ufdd7"
"""Stands for an item where the tokenizer has no token for it."""

_OPEN, _CLOSE, _NUMBERED, _SPELLED = "\ufdd2", "\ufdd3", "\ufdd8", "\ufdd4"
_MARK = re.compile(f"([{_OPEN}{_CLOSE}])([0-9]+){_NUMBERED}|[{_SPELLED}{GENERATED}{GENERATED_END}]")
_RESERVED = re.compile("[\ufdd0-\ufdef]")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text that a template wrote; `generated` are the spans of its {% generation %} tags, `words` those of marked
    parts by their numbers, `spelled` the places of special tokens that words spell."""

    text: str
    generated: tuple[Span, ...]
    words: Mapping[int, Span]
    spelled: tuple[int, ...]

    @classmethod
    def of(cls, written: str) -> "Rendered":
        """Take the marks out of what a template wrote; raises DataError where it nests {% generation %}."""
        kept: list[str] = []
        begins: dict[int, int] = {}
        words: dict[int, Span] = {}
        generated: list[Span] = []
        spelled = []
        begun = None
        at = length = 0
        for mark in _MARK.finditer(written):
            kept.append(written[at : mark.start()])
            length, at = length + mark.start() - at, mark.end()
            if mark[0] == _SPELLED:
                spelled.append(length)
            elif mark[0] == GENERATED:
                if begun is not None:
                    raise DataError("the chat template has one {% generation %} inside of another; correct it.")
                begun = length
            elif mark[0] == GENERATED_END and begun is not None:
                generated.append((begun, length))
                begun = None
            elif mark[1] == _OPEN:
                begins.setdefault(int(mark[2]), length)
            elif mark[1] == _CLOSE and int(mark[2]) in begins:
                words.setdefault(int(mark[2]), (begins[int(mark[2])], length))
        kept.append(written[at:])
        return cls("".join(kept), tuple(generated), words, tuple(spelled))


def mark_words(text: str, number: int, special: re.Pattern[str]) -> str:
    """A part's text with marks around its words, inside of the space at its ends, which templates trim."""
    words = text.strip()
    if not words:
        return text
    begin = text.index(words)
    marked = f"{_OPEN}{number}{_NUMBERED}{mark_spelled(words, special)}{_CLOSE}{number}{_NUMBERED}"
    return f"{text[:begin]}{marked}{text[begin + len(words) :]}"


def mark_spelled(value: Any, special: re.Pattern[str]) -> Any:
    """A text, or a JSON value, with a mark before each special token that a text in it spells."""
    if isinstance(value, str):
        return special.sub(f"{_SPELLED}\\g<0>", value)
    if isinstance(value, Mapping):
        return {mark_spelled(key, special): mark_spelled(inner, special) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mark_spelled(inner, special) for inner in value]
    return value


def refuse_reserved(values: Sequence[str]) -> None:
    """Raise DataError for a text with one of the code points that marks are made of."""
    for text in values:
        found = _RESERVED.search(text)
        if found:
            raise DataError(f"the text holds the code point U+{ord(found[0]):04X}, which is no character; remove it.")


def texts_in(value: Any) -> list[str]:
    """All texts of a JSON value, those of keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for pair in value.items() for inner in pair for text in texts_in(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in texts_in(inner)]
    return []
