"""One record of a dataset as a conversation, in the forms in which datasets are published.

    {"image": "a.png", "conversations": [{"from": "human", "value": "<image> What is it?"},
                                         {"from": "gpt", "value": "A cat."}]}
    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "A cat."}]}

Turns are at `conversations` or `messages`, and a text at `system` is a first turn. Files are at `image`, `video`,
`audio` and `features` (or their plurals), one or a list; each stands where the next mark of its kind is in the text,
and where there is no mark of a kind, all of its files stand before the first turn of the user. A mark is a plain word
where the record has nothing of its kind, and in a turn that is a list of parts, where media are parts of their own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from counterpoint.data.prepare.shapes.media import Known, decode_inline, named
from counterpoint.data.prepare.shapes.shape import Columns, Find, Parsed, Shape, file_keys
from counterpoint.data.text.chat import ASSISTANT, SYSTEM, TOOL, USER, Medium, Message, Part, Role
from counterpoint.data.text.shown import show
from counterpoint.data.text.tokenizer import check_text
from counterpoint.data.text.turns import EXTRAS, read_tools, turn_extras
from counterpoint.errors import DataError
from counterpoint.kinds.modality import PartForm

_ROLES: Mapping[object, Role] = {
    "human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT, "system": SYSTEM, "chatgpt": ASSISTANT,
    "bing": ASSISTANT, "bard": ASSISTANT, "tool": TOOL,
}  # fmt: skip
_TURN_KEYS = (("from", "value"), ("role", "content"))
LABELS = ("source", "data_source", "model")
"""Keys that only say where a record is from: nothing reads them, which `prepare` says. `id` need not be said."""
_ABOUT_FILES = ("metadata",)
"""Keys of a part that repeat what its file says."""

_TURNS = ("conversations", "messages")
_TOOLS = "tools"
_IMAGE, _VIDEO = "image", "video"

UNMARKED = "its files have no mark in the text: they stand before the first turn of the user"


def parse_record(values: object, find: Find) -> Parsed:
    """The conversation of a record; raises DataError for anything that would be lost or misread."""
    try:
        return _parse(values, Known.of(find))
    except RecursionError:
        raise DataError("the record is nested too deeply, expected turns of text; correct it.") from None


def _parse(values: object, known: Known) -> Parsed:
    if not isinstance(values, dict):
        raise DataError(f"expected an object with a list 'conversations' or 'messages', got {show(values)}.")
    record = _given(values)
    _refuse_unknown(record, _keys(), "record")
    turns = _turns(record)
    waiting = {key: _media(record, key, known) for key in known.forms}
    marks = _marks(turns, waiting, known)
    messages = [*_system(record, turns)]
    placed = _Placed(waiting)
    words: set[str] = set()
    for role, content, weight, fields in turns:
        parts = _split(content, waiting, marks, words) if isinstance(content, str) else _read_parts(content, known)
        messages.append(Message(role, tuple(placed.fill(parts)), weight, fields))
    unmarked = [key for key in known.forms if waiting[key] and not placed.counts[key]]
    for key, form in known.forms.items():
        if placed.counts[key] != len(waiting[key]) and key not in unmarked:
            raise DataError(
                f"{placed.counts[key]} marks {form.mark} for {len(waiting[key])} {form.name}s; expected one mark in "
                f"the text for each {form.name}, or none to have all of them before the first turn of the user."
            )
    first = [medium for key in unmarked for medium in waiting[key]]
    return Parsed(
        tuple(_before_first_user(first, messages)),
        tuple(key for key in LABELS if key in record),
        tuple(sorted(words)),
        (UNMARKED,) if first else (),
        read_tools(record.get(_TOOLS, [])),
    )


def _keys() -> tuple[str, ...]:
    """All keys of a record."""
    return (*_TURNS, "system", _TOOLS, *file_keys(), "id", *LABELS)


def _marks(turns: Sequence["_Turn"], waiting: Mapping[str, Sequence[Medium]], known: Known) -> dict[str, str]:
    """The mark of each key. That of a video is <image> in a record of videos alone, if such marks stand there and no
    <video>, as LLaVA-Video writes it."""
    marks = {key: form.mark for key, form in known.forms.items()}
    texts = [turn.content for turn in turns if isinstance(turn.content, str)]
    counts = {key: sum(text.count(marks[key]) for text in texts) for key in (_IMAGE, _VIDEO)}
    if waiting[_VIDEO] and not waiting[_IMAGE] and not counts[_VIDEO] and counts[_IMAGE]:
        marks[_VIDEO] = marks[_IMAGE]
    return marks


def _before_first_user(media: Sequence[Medium], messages: list[Message]) -> Iterator[Message]:
    """The turns with some media before the first one of the user, or where there is none, before the first one that
    is not the system's."""
    roles = [message.role for message in messages]
    first = next((at for role in (USER, ASSISTANT, SYSTEM) for at, one in enumerate(roles) if one == role), 0)
    for at, message in enumerate(messages):
        yield replace(message, parts=(*media, *message.parts)) if media and at == first else message


class _Placed:
    """Puts media into the places of parts, and counts these by key."""

    def __init__(self, waiting: Mapping[str, Sequence[Medium]]) -> None:
        self.counts = dict.fromkeys(waiting, 0)
        self._media = {key: iter(found) for key, found in waiting.items()}

    def fill(self, parts: Iterable["Part | _Place"]) -> Iterator[Part]:
        """Parts with the next medium of its key at each place; a place too many is only counted."""
        for part in parts:
            if not isinstance(part, _Place):
                yield part
                continue
            if part.number not in (None, self.counts[part.key]):
                raise DataError(
                    f"a part's 'index' is {show(part.number)}, but it is the {part.key} number {self.counts[part.key]} "
                    "of the record's turns, counted from 0; write parts in the order of their files."
                )
            self.counts[part.key] += 1
            medium = next(self._media[part.key], None)
            if medium is not None:
                yield medium


def _given(values: dict[Any, Any]) -> dict[str, Any]:
    """The keys of an object that are not null."""
    return {key: value for key, value in values.items() if value is not None}


def _refuse_unknown(values: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    unknown = next((key for key in values if key not in known), None)
    if unknown is not None:
        raise DataError(
            f"the {what} has a key {show(unknown)} that nothing would read, expected some of {', '.join(known)}; "
            "remove it, or say it in a turn."
        )


class _Turn(NamedTuple):
    """Who speaks, the content as published, the weight, and fields for a chat template."""

    role: Role
    content: Any
    weight: int
    fields: Mapping[str, Any]


def _turns(record: Mapping[str, Any]) -> list[_Turn]:
    keys = [key for key in _TURNS if key in record]
    turns = as_structs(record[keys[0]]) if len(keys) == 1 else None
    if not isinstance(turns, list) or not turns:
        raise DataError("expected an object with a list 'conversations' or 'messages' of at least one turn.")
    return [_turn(turn) for turn in turns]


def as_structs(turns: object) -> object:
    """Turns that are a struct of lists, as older versions of `datasets` wrote them, as a list of structs."""
    if not isinstance(turns, dict) or not turns or not all(isinstance(values, list) for values in turns.values()):
        return turns
    if len({len(values) for values in turns.values()}) != 1:
        return turns
    return [dict(zip(turns, values, strict=True)) for values in zip(*turns.values(), strict=True)]


def _turn(turn: object) -> _Turn:
    if isinstance(turn, dict):
        values = _given(turn)
        for who, what in _TURN_KEYS:
            speaker = values.get(who)
            # A turn that only calls tools says nothing.
            content = values.get(what, "" if "tool_calls" in values else None)
            if isinstance(speaker, str) and speaker in _ROLES and isinstance(content, str | list):
                _refuse_unknown(values, (who, what, *EXTRAS), "turn")
                return _Turn(_ROLES[speaker], content, *_extras(_ROLES[speaker], values))
    raise DataError(
        "expected turns of the form {'from': 'human', 'gpt' or 'system', 'value': text} or {'role': 'user', "
        f"'assistant' or 'system', 'content': text or parts}}, got {show(turn)}."
    )


def _extras(role: Role, values: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    weight, fields = turn_extras(values)
    if role != ASSISTANT and "weight" in values:
        raise DataError(f"a turn of the {role} has a weight, expected weights of the assistant's turns; remove it.")
    return weight, fields


def _system(record: Mapping[str, Any], turns: Sequence[_Turn]) -> Iterator[Message]:
    """The turn of a text at `system`."""
    text = record.get("system", "")
    if not isinstance(text, str):
        raise DataError(f"expected 'system' to be a text, got {show(text)}.")
    if text and turns[0][0] == SYSTEM:
        raise DataError("it has a text at 'system' and a first turn of the system, expected one of them; join them.")
    if text:
        yield Message(SYSTEM, (_text(text),))


class _Place(NamedTuple):
    """The place in the text of the next medium at a key of the record."""

    key: str
    number: object = None


def _split(
    content: str, waiting: Mapping[str, Sequence[Medium]], marks: Mapping[str, str], words: set[str]
) -> Iterable[Part | _Place]:
    """The words and places of a turn's text; marks without a medium in the record are noted in `words`."""
    _text(content)
    meant = {marks[key] for key, media in waiting.items() if media}
    words |= {mark for mark in marks.values() if mark not in meant and mark in content}
    pieces: list[str | _Place] = [content]
    for key in (key for key, media in waiting.items() if media):
        pieces = [inner for piece in pieces for inner in _around(piece, marks[key], key)]
    return [piece for piece in pieces if piece != ""]


def _around(piece: str | _Place, mark: str, key: str) -> Iterator[str | _Place]:
    if isinstance(piece, _Place):
        yield piece
        return
    first, *others = piece.split(mark)
    yield first
    for other in others:
        yield _Place(key)
        yield other


def _read_parts(parts: list[Any], known: Known) -> Iterator[Part | _Place]:
    """The parts of a turn that is a list of them."""
    for part in parts:
        values = _given(part) if isinstance(part, dict) else {}
        kind = values.pop("type", None)
        if kind == "text" and isinstance(values.get("text"), str):
            yield _text(values.pop("text"))
        elif isinstance(kind, str) and kind in known.forms:
            given = values.pop(kind, None)
            yield from [_Place(kind, values.pop("index", None))] if given is None else named(given, kind, known)
            for key in _ABOUT_FILES:
                values.pop(key, None)
        elif isinstance(kind, str) and kind in known.parts and _is_readable(known.parts[kind], values):
            yield from _of_part(known.parts[kind], values.pop(kind, None), known)
        else:
            raise DataError(
                "expected parts of the form {'type': 'text', 'text': text} or {'type': 'image', 'image': file name}, "
                f"got {show(part)}."
            )
        _refuse_unknown(values, ("type", str(kind)), "part")


def _is_readable(part: PartForm, values: Mapping[str, Any]) -> bool:
    return not part.is_inline or isinstance(values.get(part.type), dict)


def _of_part(part: PartForm, given: Any, known: Known) -> list[Medium]:
    """The item of a part: a file by name, or its content in base64."""
    inner = _given(given).get(part.field) if isinstance(given, dict) else given
    return [decode_inline(inner, part, known)] if part.is_inline else named(inner, part.key, known)


def _media(record: Mapping[str, Any], key: str, known: Known) -> list[Medium]:
    """What the record has at a key, or its plural."""
    names = [name for name in (key, *(many for many, one in known.plurals.items() if one == key)) if name in record]
    if len(names) > 1:
        raise DataError(f"it has both '{names[0]}' and '{names[1]}', expected one of them; join them.")
    return named(record[names[0]], key, known, names[0]) if names else []


def _text(text: str) -> str:
    check_text(text)
    return text


def _fits(columns: Columns) -> bool:
    return any(name in columns for name in _TURNS)


TURNS = Shape(keys=_keys(), fits=_fits, parse=parse_record, described="'messages' or 'conversations' with turns")
