"""What is odd about a text: marks that stand as plain words, and characters that no text should have."""

import unicodedata
from collections.abc import Iterator

from counterpoint.modalities import MODALITIES

_LINES = "\n\r\t"
_REPLACEMENT = "\ufffd"
_OPENING = dict.fromkeys("\u202a\u202b\u202d\u202e", "\u202c") | dict.fromkeys("\u2066\u2067\u2068", "\u2069")
"""What embeds or isolates text in a direction, by what ends it."""

_CLOSING = frozenset(_OPENING.values())
_MISREAD = ("\u00c3\u00a9", "\u00c3\u00a4", "\u00c3\u00b6", "\u00c3\u00bc", "\u00e2\u20ac\u2122", "\u00e2\u20ac\u0153")
"""UTF-8 that was read as Windows-1252: e with an acute, a, o and u with two dots, and quotation marks."""

_NAMES = {"Cc": "a control character", "Co": "a private-use character", "Cn": "an unassigned character"}


def marks_in(text: str) -> list[str]:
    """The marks of items that a text holds as plain words."""
    marks = dict.fromkeys(form.mark for modality in MODALITIES.values() for form in modality.forms)
    return [mark for mark in marks if mark in text]


def odd_characters(text: str) -> Iterator[str]:
    """What is odd about the characters of a text, each once, in words."""
    if text.isascii() and (text.isprintable() or all(c.isprintable() or c in _LINES for c in text)):
        return
    found: dict[str, None] = {}
    for character in text:
        category = unicodedata.category(character)
        if category in _NAMES and character not in _LINES:
            found[f"{_NAMES[category]}, U+{ord(character):04X}"] = None
        elif character == _REPLACEMENT:
            found["U+FFFD, which stands for bytes that were no text"] = None
    found |= dict.fromkeys(f"'{bad}', UTF-8 that was read as Windows-1252" for bad in _MISREAD if bad in text)
    if _is_unbalanced(text):
        found["a direction of writing that is begun and not ended, or ended and not begun"] = None
    yield from found


def _is_unbalanced(text: str) -> bool:
    ends: list[str] = []
    for character in text:
        if character in _OPENING:
            ends.append(_OPENING[character])
        elif character in _CLOSING and (not ends or ends.pop() != character):
            return True
    return bool(ends)
