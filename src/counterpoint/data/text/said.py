"""Whether a chat template wrote all that a conversation says: what it drops would be lost without a word."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from counterpoint.data.text.chat import Message, Tools
from counterpoint.data.text.rendered import Rendered, texts_in
from counterpoint.errors import DataError

_THOUGHT = re.compile(r"</?think(?:ing)?>")
_SPACE = re.compile(r"\s+")
_SHOWN = 60
_NOT_SHOWN = ("tool_call_id", "name")
"""Fields that only say what belongs together; templates may leave them out."""


def check_said(
    messages: Sequence[Message],
    tools: Tools,
    text: str,
    marked: Rendered | None,
    answers: Mapping[int, "str | DataError"],
) -> None:
    """Raise DataError for words, calls or tools that are not in a rendering.

    An earlier answer may lose words (what was thought, in Qwen3) if its own rendering in `answers` has them. Words are
    looked up where their marks are, else in what is not marked as other words; anywhere where nothing is marked.
    """
    everywhere = _squeezed(text if marked is None else _outside(marked))
    number = 0
    for turn, message in enumerate(messages):
        own = answers.get(turn)
        alone = own if isinstance(own, str) and turn + 1 < len(messages) else None
        for part in (part for part in message.parts if isinstance(part, str)):
            span = None if marked is None else marked.words.get(number)
            number += 1
            place = everywhere if span is None else _squeezed(text[slice(*span)])
            if not _has(place, part) and not (alone is not None and _has(_squeezed(alone), part)):
                raise DataError(_lost(f"turn {turn + 1} ({message.role})", part))
        for name, value in message.fields.items():
            lost = next((said for said in _said(name, value) if not _has(everywhere, said)), None)
            if lost is not None and not (alone is not None and _has(_squeezed(alone), lost)):
                raise DataError(_lost(f"'{name}' of turn {turn + 1} ({message.role})", lost))
    for tool in tools:
        lost = next((name for name in _names(tool) if not _has(everywhere, name)), None)
        if lost is not None:
            raise DataError(_lost("'tools'", lost))


def check_heard(
    messages: Sequence[Message], tools: Tools, has_effect: Callable[[int, str], bool], has_tools: Callable[[], bool]
) -> None:
    """Raise DataError for a field of a turn, or for tools, without which the rendering is the same.

    Short names, as of a call of `f`, are in nearly every rendering, whatever it writes.
    """
    for turn, message in enumerate(messages):
        for name, value in message.fields.items():
            said = next((text for text in _said(name, value) if text.strip()), None)
            if said is not None and not has_effect(turn, name):
                raise DataError(_lost(f"'{name}' of turn {turn + 1} ({message.role})", said))
    if tools and not has_tools():
        raise DataError(_lost("'tools'", next((name for tool in tools for name in _names(tool)), "")))


def _outside(marked: Rendered) -> str:
    """A rendering without the words that were found."""
    kept, at = [], 0
    for first, stop in sorted(marked.words.values()):
        kept.append(marked.text[at:first])
        at = max(at, stop)
    return "\0".join([*kept, marked.text[at:]])


def _said(name: str, value: Any) -> list[str]:
    """The texts of a field that a template must write."""
    if name in _NOT_SHOWN:
        return []
    if name != "tool_calls":
        return texts_in(value)
    calls = [call.get("function", call) for call in value]
    return [text for call in calls for text in (call["name"], *texts_in(call["arguments"]))]


def _names(tool: Mapping[str, Any]) -> list[str]:
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    return [name] if isinstance(name, str) else []


def _has(place: str, said: str) -> bool:
    """Whether a text without space has words, as they are or as JSON; thoughts may stand apart from the rest."""
    if _squeezed(said) in place or _squeezed(json.dumps(said, ensure_ascii=False)[1:-1]) in place:
        return True
    if _squeezed(json.dumps(said)[1:-1]) in place:
        return True
    at = 0
    pieces = [_squeezed(piece) for piece in _THOUGHT.split(said)]
    if len(pieces) == 1:
        return False
    for piece in pieces:
        found = place.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return True


def _squeezed(text: str) -> str:
    return _SPACE.sub("", text)


def _lost(where: str, said: str) -> str:
    shown = said if len(said) <= _SHOWN else f"{said[:_SHOWN]}..."
    return (
        f"the chat template does not write {shown!r} of {where}, which would be lost; remove it from the record, or "
        "choose a template that writes it."
    )
