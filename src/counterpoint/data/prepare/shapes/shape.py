"""What a shape is: a way in which conversations are published, told by the names and kinds of columns."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

from counterpoint.data.text.chat import File, Message, Tools
from counterpoint.data.text.shown import SHOWN
from counterpoint.modalities import MODALITIES

Find = Callable[[str, str], File]
"""From a name, and what the file is called in messages, to the file."""

Columns = Mapping[str, str]
"""Columns of a file by name, in their order, each with its kind: one of those below, or `list<KIND>`."""

TEXT, NUMBER, STRUCT, BINARY, NULL, OTHER = "text", "number", "struct", "binary", "null", "other"
IMAGE, AUDIO, VIDEO = "image", "audio", "video"
FILE_KINDS = (IMAGE, AUDIO, VIDEO)

_NEVER_UNREAD = (
    "weight", "weights", "loss", "loss_mask", "mask", "train", "trainable", "tools", "functions", "tool_calls",
    "chosen", "rejected",
)  # fmt: skip
"""Names of columns that change what is learned: they are read or refused."""


@final
@dataclass(frozen=True, slots=True)
class Parsed:
    """A record's conversation; the keys that were not read, the marks that stand as plain words, and `notes` on what
    was taken in a way that the record does not say."""

    messages: tuple[Message, ...]
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tools: Tools = ()


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """A way in which conversations are published.

    `keys` are the columns that it may read; `fits` says from the columns of a file whether its rows have the shape;
    `parse` makes a conversation of a row and raises DataError for anything that would be lost or misread. `described`
    says in words which columns it is told by. Of `options`, each some keys, a row's first is read.
    """

    keys: tuple[str, ...]
    fits: Callable[[Columns], bool]
    parse: Callable[[object, Find], Parsed]
    described: str
    options: tuple[tuple[str, ...], ...] = ()

    def unread(self, columns: Columns) -> tuple[str, ...]:
        """Columns that carry what a reader would have to see, files or weights, and that nothing reads."""
        return tuple(
            name
            for name, kind in columns.items()
            if name not in self.keys and (element(kind) in (*FILE_KINDS, BINARY) or name in _NEVER_UNREAD)
        )

    def choose(
        self, row: Mapping[str, Any], mapped: Collection[str], read: Collection[str]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """A row with one of its options alone, one with keys that are `mapped` before others; and notes on keys with
        other values, which are lost unless a mapping has `read` them."""
        held = {key: value for key, value in row.items() if value is not None}
        whole = [option for option in self.options if held.keys() >= set(option)]
        if not whole:
            return dict(row), ()
        chosen = next((option for option in whole if not set(option).isdisjoint(mapped)), whole[0])
        others = {key: own for option in self.options if option != chosen for key, own in zip(option, chosen)}
        notes = tuple(
            f"'{key}' is not read, since '{own}' is; choose it with --map {own}={key}, or leave it out with --map "
            f"ignore={key}"
            for key, own in others.items()
            if key in held and key not in read and held[key] != held[own]
        )
        return {key: value for key, value in row.items() if key not in others}, notes


def element(kind: str) -> str:
    """The kind of the elements of lists, however deeply they are nested."""
    while kind.startswith("list<"):
        kind = kind.removeprefix("list<").removesuffix(">")
    return kind


def is_list(kind: str) -> bool:
    """Whether the values of a kind are lists."""
    return kind.startswith("list<")


def file_keys() -> tuple[str, ...]:
    """All keys of records that hold files, in the singular and the plural."""
    forms = [form for modality in MODALITIES.values() for form in modality.forms]
    return (*(form.key for form in forms), *(form.plural for form in forms if form.plural is not None))


def show_columns(columns: Columns) -> str:
    """Names and kinds of columns in a message, cut to a line."""
    text = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 3 * SHOWN else f"{text[: 3 * SHOWN]}..."
