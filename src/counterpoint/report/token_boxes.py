"""The tokens of a document as boxes, with the places of its items between them."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.kinds.arrays import Bools, Ints
from counterpoint.report.markup import tag, words

MOST_TOKENS = 2000
"""Tokens of a document that are drawn."""

_SPACE, _BREAK, _TAB = "\u00b7", "\u23ce", "\u21e5"
_SHOWN_AS = {" ": _SPACE, "\n": _BREAK, "\t": _TAB}
_PICTURES = 0x2400
"""The first of the characters that stand for control characters."""

_HIDDEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
_UNREADABLE = "\ufffd"


@dataclass(frozen=True, slots=True)
class Place:
    """An item between tokens: the token that it precedes, and what its box says."""

    position: int
    text: str


def token_boxes(tokenizer: Tokenizer, tokens: Ints, loss: Bools, places: Sequence[Place], kept: int) -> str:
    """A box for each token, targets coloured, special tokens marked, those from token `kept` on crossed out."""
    boxes: list[str] = []
    waiting = list(places)
    shown = min(len(tokens), MOST_TOKENS)
    pairs = zip(tokens[:shown].tolist(), loss[:shown].tolist(), strict=True)
    for number, (token, is_target) in enumerate(pairs):
        while waiting and waiting[0].position <= number:
            boxes.append(_item_box(waiting.pop(0)))
        boxes.append(_token_box(tokenizer, token, is_target, is_cut=number >= kept))
    if shown < len(tokens):
        boxes.append(tag("span", words(f"and {len(tokens) - shown:,} more tokens"), class_="item"))
    boxes += map(_item_box, waiting)
    return tag("div", *boxes, class_="tokens")


def _item_box(place: Place) -> str:
    return tag("span", words(place.text), class_="item")


def _token_box(tokenizer: Tokenizer, token: int, is_target: bool, is_cut: bool) -> str:
    classes = {"target": is_target, "special": tokenizer.is_special(token), "cut": is_cut}
    text = visible(token_text(tokenizer, token))
    said = ", ".join(name for name, holds in classes.items() if holds)
    title = f"token {token}" + (f": {said}" if said else "")
    return tag("span", words(text), class_=" ".join(name for name, holds in classes.items() if holds), title=title)


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """The text of one token; its name in the vocabulary where it is a part of a character, or a special token."""
    name = tokenizer.backend.id_to_token(token)
    if name is None:
        return f"token {token}, which the tokenizer lacks"
    if tokenizer.is_special(token):
        return str(name)
    text = tokenizer.backend.decode([token], skip_special_tokens=False)
    return str(name) if not text or _UNREADABLE in text else str(text)


def visible(text: str) -> str:
    """A text in which nothing is invisible: white space and characters without a shape are shown by others."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _SHOWN_AS:
        return _SHOWN_AS[character]
    if ord(character) < ord(" "):
        return chr(_PICTURES + ord(character))
    return f"[U+{ord(character):04X}]" if unicodedata.category(character) in _HIDDEN else character
