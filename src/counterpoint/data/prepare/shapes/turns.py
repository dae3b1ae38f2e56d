"""One record of a dataset as a conversation, in the forms in which datasets are published.

    {"image": "a.png", "conversations": [{"from": "human", "value": "<image> What is it?"},
                                         {"from": "gpt", "value": "A cat."}]}
    {"messages": [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What?"}]},
                  {"role": "assistant", "content": "A cat."}]}

Turns are at `conversations` or `messages`, and a text at `system` is a first turn. Files are at `image`, `video`,
`audio` and `features` (or their plurals), one or a list; each stands where the next mark of its kind is in the text.
`video` is the list of the pictures of a video, or a list of such lists. A mark is a plain word where the record has
nothing of its kind, and in a turn that is a list of parts, where media are parts of their own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, final

from counterpoint.data.prepare.media import decode_base64
from counterpoint.data.text.chat import ASSISTANT, SYSTEM, USER, File, Medium, Message, Part, Role
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError
from counterpoint.kinds.modality import Form, PartForm
from counterpoint.modalities import MODALITIES

_ROLES: Mapping[object, Role] = {
    "human": USER, "user": USER, "gpt": ASSISTANT, "assistant": ASSISTANT, "system": SYSTEM,
}  # fmt: skip
_TURN_KEYS = (("from", "value"), ("role", "content"))
_LABELS = ("source", "data_source", "model")
"""Keys that only say where a record is from: nothing reads them, which `prepare` says. `id` need not be said."""

_SHOWN = 200

Find = Callable[[str, str], File]
"""From a name, and what the file is called in messages, to the file."""

_TURNS = ("conversations", "messages")


@final
@dataclass(frozen=True, slots=True)
class _Known:
    """What a record may hold besides text, from the registered modalities: forms and their kinds by key, forms of parts
    by type, keys by their plurals; and `find`, which looks up the files that it names."""

    find: Find
    forms: Mapping[str, Form]
    kinds: Mapping[str, str]
    parts: Mapping[str, PartForm]
    plurals: Mapping[str, str]

    @classmethod
    def of(cls, find: Find) -> "_Known":
        forms = {form.key: form for modality in MODALITIES.values() for form in modality.forms}
        return cls(
            find,
            forms,
            # In the index the pictures of a video are one item of kind image.
            {form.key: kind for kind, modality in MODALITIES.items() for form in modality.forms},
            {part.type: part for modality in MODALITIES.values() for part in modality.parts},
            {form.plural: key for key, form in forms.items() if form.plural is not None},
        )

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of a record."""
        return (*_TURNS, "system", *self.forms, *self.plurals, "id", *_LABELS)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A record's conversation; the keys that were not read, and the marks that stand as plain words."""

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    words: tuple[str, ...]


def parse_record(values: object, find: Find) -> Parsed:
    """The conversation of a record; raises DataError for anything that would be lost or misread."""
    try:
        return _parse(values, _Known.of(find))
    except RecursionError:
        raise DataError("the record is nested too deeply, expected turns of text; correct it.") from None


def _parse(values: object, known: _Known) -> Parsed:
    if not isinstance(values, dict):
        raise DataError(f"expected an object with a list 'conversations' or 'messages', got {show(values)}.")
    record = _given(values)
    _refuse_unknown(record, known.keys, "record")
    turns = _turns(record)
    waiting = {key: _media(record, key, known) for key in known.forms}
    media = {key: iter(found) for key, found in waiting.items()}
    places = dict.fromkeys(known.forms, 0)
    messages = [*_system(record, turns)]
    words: set[str] = set()
    for role, content in turns:
        read = _split(content, waiting, words, known) if isinstance(content, str) else _read_parts(content, known)
        placed: list[Part] = []
        for part in read:
            if isinstance(part, _Place):
                places[part.key] += 1
                placed += [found for found in [next(media[part.key], None)] if found is not None]
            else:
                placed.append(part)
        messages.append(Message(role, tuple(placed)))
    for key, form in known.forms.items():
        if places[key] != len(waiting[key]):
            raise DataError(
                f"{places[key]} marks {form.mark} for {len(waiting[key])} {form.name}s; expected one mark in the text "
                f"for each {form.name}."
            )
    return Parsed(tuple(messages), tuple(key for key in _LABELS if key in record), tuple(sorted(words)))


def show(value: object) -> str:
    """A value in a message, cut to a line."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return "a value that cannot be shown"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


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


def _turns(record: Mapping[str, Any]) -> list[tuple[Role, Any]]:
    keys = [key for key in _TURNS if key in record]
    turns = record[keys[0]] if len(keys) == 1 else None
    if not isinstance(turns, list) or not turns:
        raise DataError("expected an object with a list 'conversations' or 'messages' of at least one turn.")
    return [_turn(turn) for turn in turns]


def _turn(turn: object) -> tuple[Role, Any]:
    if isinstance(turn, dict):
        values = _given(turn)
        for who, what in _TURN_KEYS:
            speaker = values.get(who)
            if isinstance(speaker, str) and speaker in _ROLES and isinstance(values.get(what), str | list):
                _refuse_unknown(values, (who, what), "turn")
                return _ROLES[speaker], values[what]
    raise DataError(
        "expected turns of the form {'from': 'human', 'gpt' or 'system', 'value': text} or {'role': 'user', "
        f"'assistant' or 'system', 'content': text or parts}}, got {show(turn)}."
    )


def _system(record: Mapping[str, Any], turns: Sequence[tuple[Role, Any]]) -> Iterator[Message]:
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


def _split(
    content: str, waiting: Mapping[str, Sequence[Medium]], words: set[str], known: _Known
) -> Iterable[Part | _Place]:
    """The words and places of a turn's text; marks without a medium in the record are noted in `words`."""
    _text(content)
    words |= {form.mark for key, form in known.forms.items() if not waiting[key] and form.mark in content}
    pieces: list[str | _Place] = [content]
    for key in (key for key, media in waiting.items() if media):
        pieces = [inner for piece in pieces for inner in _around(piece, known.forms[key].mark, key)]
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


def _read_parts(parts: list[Any], known: _Known) -> Iterator[Part | _Place]:
    """The parts of a turn that is a list of them."""
    for part in parts:
        values = _given(part) if isinstance(part, dict) else {}
        kind = values.pop("type", None)
        if kind == "text" and isinstance(values.get("text"), str):
            yield _text(values.pop("text"))
        elif isinstance(kind, str) and kind in known.forms:
            key = kind
            given = values.pop(key, None)
            yield from [_Place(key)] if given is None else _named(given, key, known)
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


def _of_part(part: PartForm, given: Any, known: _Known) -> list[Medium]:
    """The item of a part: a file by name, or its content in base64."""
    inner = _given(given).get(part.field) if isinstance(given, dict) else given
    if not part.is_inline:
        return _named(inner, part.key, known)
    if not isinstance(inner, str):
        raise DataError(f"expected '{part.field}' of an '{part.type}' to be base64, got {show(inner)}.")
    return [Medium(known.kinds[part.key], (decode_base64(inner, known.forms[part.key].file),))]


def _media(record: Mapping[str, Any], key: str, known: _Known) -> list[Medium]:
    """What the record has at a key, or its plural."""
    names = [name for name in (key, *(many for many, one in known.plurals.items() if one == key)) if name in record]
    if len(names) > 1:
        raise DataError(f"it has both '{names[0]}' and '{names[1]}', expected one of them; join them.")
    return _named(record[names[0]], key, known, names[0]) if names else []


def _named(given: object, key: str, known: _Known, called: str = "") -> list[Medium]:
    """The media that a value names, each a file or the pictures of a video."""
    form, called = known.forms[key], called or key
    if form.is_list:
        expected = "a list of the file names of its pictures, or a list of such lists"
        items = [given] if _are_names(given) and given else given
    else:
        expected = "a file name or a list of them"
        names = [given] if isinstance(given, str) else given
        items = [[name] for name in names] if isinstance(names, list) else names
    if not isinstance(items, list) or not all(_are_names(names) and names for names in items):
        raise DataError(f"expected '{called}' to be {expected}, got {show(given)}.")
    return [Medium(known.kinds[key], tuple(known.find(name, form.file) for name in names)) for names in items]


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _text(text: str) -> str:
    check_text(text)
    return text
