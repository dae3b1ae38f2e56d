"""Images and pairs of question and answer: the_cauldron and FineVision.

    {"images": [IMAGE], "texts": [{"user": "What is it?", "assistant": "A cat.", "source": "ai2d"}]}

A row is one conversation. Texts have no marks as a rule, so all images stand before the first question.
"""

from collections.abc import Mapping
from typing import Any

from counterpoint.data.prepare.shapes.shape import STRUCT, Columns, Find, Parsed, Shape, element, file_keys
from counterpoint.data.prepare.shapes.turns import UNMARKED, as_structs, parse_record
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError

_TEXTS, _SYSTEM = "texts", "system"
_PAIR = ("user", "assistant")


def _fits(columns: Columns) -> bool:
    kind = columns.get(_TEXTS, "")
    return element(kind) == STRUCT


def _parse(values: object, find: Find) -> Parsed:
    row: Mapping[str, Any] = values if isinstance(values, dict) else {}
    pairs = as_structs(row.get(_TEXTS))
    if not isinstance(pairs, list) or not pairs:
        raise DataError(f"expected '{_TEXTS}' to be a list of at least one pair of texts, got {show(row.get(_TEXTS))}.")
    turns = []
    for pair in pairs:
        texts = [pair.get(key) for key in _PAIR] if isinstance(pair, dict) else []
        if not texts or not all(isinstance(text, str) for text in texts):
            raise DataError(f"expected '{_TEXTS}' to hold pairs {{'user': text, 'assistant': text}}, got {show(pair)}.")
        if _SYSTEM in pair and pair[_SYSTEM] is not None:
            turns.append({"role": "system", "content": pair[_SYSTEM]})
        turns += [{"role": key, "content": text} for key, text in zip(_PAIR, texts, strict=True)]
    record = {key: row[key] for key in (*file_keys(), _SYSTEM) if key in row}
    parsed = parse_record(record | {"messages": turns}, find)
    # That images stand first is what this shape says.
    return Parsed(parsed.messages, words=parsed.words, notes=tuple(note for note in parsed.notes if note != UNMARKED))


PAIRS = Shape(
    keys=(_TEXTS, _SYSTEM, *file_keys()),
    fits=_fits,
    parse=_parse,
    described="'texts' with structs of user and assistant, beside 'images'",
)
