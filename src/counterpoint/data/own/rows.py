"""Rows of a program's dataset as tokens and items: conversations in the forms of records, or tokens as they are."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import index
from pathlib import Path
from typing import NamedTuple, final

from counterpoint.data.own.files import GivenFile, file_bytes, with_names
from counterpoint.data.prepare.media import called, encoded
from counterpoint.data.prepare.readers.json_columns import json_kind
from counterpoint.data.prepare.reading import DEFAULT
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.prepare.shapes import SHAPES
from counterpoint.data.prepare.shapes.shape import Find, Parsed, show_columns
from counterpoint.data.text.chat import ChatFormat, File, Medium
from counterpoint.data.text.shown import show
from counterpoint.errors import DataError, InputError
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import LARGEST_LIMIT
from counterpoint.sources.prepared.part import Encoded
from counterpoint.sources.registered.samples import SampleItem, SampleSize

Convert = Callable[..., object]
"""From an element of a dataset to a conversation in a form of docs/data.md, or to a `TokenRow`."""


@final
@dataclass(frozen=True, slots=True)
class TokenRow:
    """A row that is tokens already: `loss` marks the targets, `items` are (token that it precedes, kind, file), by
    position; a video's file is a list of its pictures."""

    tokens: Sequence[int]
    loss: Sequence[bool]
    items: Sequence[tuple[int, str, object]] = ()


class LaidRow(NamedTuple):
    """A row as tokens: `loss` marks the targets, `items` are by position, with their encoded files."""

    tokens: tuple[int, ...]
    loss: tuple[bool, ...]
    items: tuple[Encoded, ...]

    @property
    def size(self) -> SampleSize:
        """Its size; raises DataError for a file whose size cannot be read."""
        return SampleSize(len(self.tokens), spans_of(self.loss), tuple(map(_sized, self.items)))


@final
@dataclass(frozen=True)
class RowLayout:
    """How rows become tokens: by the chat format of a run, None where it has no tokenizer.

    `convert` makes a conversation or a `TokenRow` of an element; files that rows name lie in `folder`.
    """

    convert: Convert
    chat: ChatFormat | None
    folder: Path | None = None

    def lay(self, element: object) -> LaidRow:
        """The row of an element; raises DataError for one that cannot be laid out, whatever its function raises."""
        try:
            given = self.convert(element)
            return self._of_tokens(given) if isinstance(given, TokenRow) else self._of_conversation(given)
        except InputError:
            raise
        except Exception as error:  # The function is the user's, and so is what it reads.
            raise DataError(f"converting it raised {type(error).__name__}: {error}; correct the function.") from error

    def _of_conversation(self, given: object) -> LaidRow:
        if self.chat is None:
            raise DataError("it is a conversation, but the config has no data.tokenizer to split it; set one.")
        parsed = _parsed(with_names(given), self._find)
        laid = self.chat.lay(parsed.messages, parsed.tools)
        return LaidRow(laid.tokens, laid.loss, self._items(laid.media))

    def _of_tokens(self, row: TokenRow) -> LaidRow:
        tokens, loss = _plain(row)
        if len(tokens) != len(loss):
            raise DataError(f"it has {len(loss)} marks of the loss for {len(tokens)} tokens; correct the row.")
        media = [(position, _medium(kind, file)) for position, kind, file in row.items]
        return LaidRow(tokens, loss, self._items(media))

    def _items(self, media: Sequence[tuple[int, Medium]]) -> tuple[Encoded, ...]:
        film = next((medium.files[0] for _position, medium in media if medium.is_video), None)
        if film is not None:
            raise DataError(
                f"video {called(film)} is a video file, expected the list of its pictures; give these, or prepare the "
                "dataset."
            )
        return tuple(encoded(position, medium, self._roots, is_copied=True) for position, medium in media)

    def _find(self, name: str, what: str) -> File:
        if isinstance(name, GivenFile):
            return file_bytes(name.value)
        if self.folder is None and not name.startswith("data:"):
            raise DataError(f"{what} {name!r} is a name, but no folder of files was given; add files=FOLDER.")
        return self._roots.find(name, what)

    @cached_property
    def _roots(self) -> Roots:
        return Roots(self.folder or Path())


def _parsed(row: object, find: Find) -> Parsed:
    """The conversation of a row in one of the shapes; raises DataError for a key that nothing reads."""
    if not isinstance(row, Mapping):
        return SHAPES[DEFAULT].parse(row, find)
    columns = {str(key): json_kind(value) for key, value in row.items()}
    shape = next((shape for shape in SHAPES.values() if shape.fits(columns)), SHAPES[DEFAULT])
    unread = {key: kind for key, kind in columns.items() if key not in shape.keys}
    if unread and shape is not SHAPES[DEFAULT]:
        raise DataError(
            f"nothing would read {show_columns(unread)} of its keys {show_columns(columns)}, which are taken as "
            f"{shape.described}; leave it out in the function of the row."
        )
    return shape.parse(row, find)


def _plain(row: TokenRow) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Tokens and loss of a row, whatever sequences they are; raises DataError for what is no id or no mark."""
    return tuple(map(_id, row.tokens)), tuple(map(_mark, row.loss))


def _id(token: object) -> int:
    try:
        number = index(token)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        raise DataError(f"it has a token {show(token)}, expected ids, whole numbers from 0; correct the row.")
    return number


def _mark(loss: object) -> bool:
    if loss not in (0, 1):
        raise DataError(
            f"it has a mark of the loss {show(loss)}, expected True for each token that is a target and False for "
            "others; labels and weights are no marks; correct the row."
        )
    return bool(loss)


def digest_of(given: object) -> str:
    """A digest of a converted row, with the content of the objects that it holds; names of files stand for these."""
    plain = with_names([*_plain(given), given.items] if isinstance(given, TokenRow) else given)
    return hashlib.sha256(repr(_hashed(plain)).encode()).hexdigest()


def _hashed(value: object) -> object:
    if isinstance(value, GivenFile):
        return hashlib.sha256(file_bytes(value.value)).hexdigest()
    if isinstance(value, dict):
        return sorted((str(key), _hashed(inner)) for key, inner in value.items())
    return [_hashed(inner) for inner in value] if isinstance(value, list) else value


def _medium(kind: str, file: object) -> Medium:
    if kind not in MODALITIES:
        raise DataError(f"it has an item of kind {kind!r}, expected one of {', '.join(MODALITIES)}; correct the row.")
    return Medium(kind, tuple(map(file_bytes, file if isinstance(file, list | tuple) else [file])))


def spans_of(loss: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """The runs of targets, each with its first token and the token after its last."""
    edges = [n for n in range(len(loss) + 1) if (n > 0 and loss[n - 1]) != (n < len(loss) and loss[n])]
    return tuple(zip(edges[::2], edges[1::2], strict=True))


def _sized(item: Encoded) -> SampleItem:
    return SampleItem(item.position, item.kind, MODALITIES[item.kind].extent(item.data, LARGEST_LIMIT), len(item.files))
