"""One question and its answer at keys of their own: Alpaca's, ms-swift's, and visual questions.

{"instruction": "Translate.", "input": "Katze", "output": "cat"}
{"image": IMAGE, "question": "What is it?", "answer": "A cat."}
"""

from collections.abc import Mapping
from typing import Any

from counterpoint.data.prepare.shapes.shape import Columns, Find, Parsed, Shape, file_keys
from counterpoint.data.prepare.shapes.turns import parse_record
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError

_PAIRS = (("instruction", "output"), ("query", "response"), ("question", "answer"))
_INPUT, _HISTORY, _SYSTEM = "input", "history", "system"


def _fits(columns: Columns) -> bool:
    return _pair(columns) is not None


def _parse(values: object, find: Find) -> Parsed:
    row: Mapping[str, Any] = values if isinstance(values, dict) else {}
    asked, answered = _pair(row) or _PAIRS[0]
    question, answer = _text(row, asked), _text(row, answered)
    if row.get(_INPUT):
        question = f"{question}\n{_text(row, _INPUT)}"
    turns = [*_history(row.get(_HISTORY)), (question, answer)]
    record = {key: row[key] for key in (*file_keys(), _SYSTEM) if row.get(key) not in (None, "")}
    messages = [
        {"role": role, "content": text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    return parse_record(record | {"messages": messages}, find)


def _pair(names: Mapping[str, object]) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if pair[0] in names and pair[1] in names), None)


def _text(row: Mapping[str, Any], key: str) -> str:
    text = row.get(key)
    if isinstance(text, list) and len(text) == 1:
        text = text[0]
    if not isinstance(text, str):
        raise DataError(f"expected '{key}' to be a text, got {show(text)}.")
    return text


def _history(history: object) -> list[tuple[str, str]]:
    pairs = [] if history is None else history
    if not isinstance(pairs, list):
        raise DataError(f"expected '{_HISTORY}' to be a list of pairs of texts, got {show(pairs)}.")
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise DataError(f"expected '{_HISTORY}' to hold pairs of texts, got {show(pair)}.")
    return [(first, second) for first, second in pairs]


INSTRUCTIONS = Shape(
    keys=(*(key for pair in _PAIRS for key in pair), _INPUT, _HISTORY, _SYSTEM, *file_keys()),
    fits=_fits,
    parse=_parse,
    options=_PAIRS,
    described="'instruction' and 'output', 'query' and 'response', or 'question' and 'answer'",
)
