"""Encodes what a chat template wrote in one piece, as transformers does, but no word of a conversation as special."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from counterpoint.data.text.rendered import PLACE, Span
from counterpoint.data.text.text_backend import hidden_name, text_backend, unknown_id
from counterpoint.errors import DataError


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids of a text, and the characters that each stands for."""

    ids: tuple[int, ...]
    spans: tuple[Span, ...]

    def overlapping(self, span: Span) -> Span:
        """The tokens, from the first to one after the last, that have characters of a span."""
        begin, end = span
        first = bisect_right(self.spans, begin, key=lambda each: each[1])
        return first, max(first, bisect_left(self.spans, end, key=lambda each: each[0]))


@dataclass(frozen=True)
class Codec:
    """A tokenizer's backend with its `special` tokens by name. `frames` are what a model's processor makes of
    tokens that stand for items."""

    backend: Backend
    special: Mapping[str, int]
    frames: Mapping[str, str]

    def encode(self, text: str, words: Sequence[Span]) -> Tokens:
        """The ids of a text of which `words` (ascending, apart) become no special token, whatever they spell."""
        own = [found for span in _between(words, len(text)) for found in self.pattern.finditer(text, *span)]
        spelled = [found.span() for found in self.pattern.finditer(text)]
        is_plain = spelled == [found.span() for found in own]
        pieces: list[tuple[str, Span]] = []
        at = 0
        for found in own:
            name = found[0]
            written = self.frames.get(name, name)
            if not is_plain:
                written = self.pattern.sub(lambda each: self._hidden_name(each[0]), written)
            pieces += [(text[at : found.start()], (at, found.start())), (written, found.span())]
            at = found.end()
        pieces.append((text[at:], (at, len(text))))
        encoding = (self._plain if is_plain else self._hidden).encode(
            "".join(piece for piece, _span in pieces), add_special_tokens=False
        )
        ids = tuple(encoding.ids)
        if not is_plain:
            self._check(ids, [found[0] for found in own])
        is_copied = len(pieces) == 1 or (is_plain and not self.frames)
        spans = encoding.offsets if is_copied else _moved(encoding.offsets, pieces)
        return Tokens(ids, tuple(spans))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Finds special tokens in a text as the library does, the longest first."""
        names = sorted([PLACE, *self.special], key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)))

    @cached_property
    def place(self) -> int:
        """The id of PLACE, which no document has."""
        found = self._plain.token_to_id(PLACE)
        assert found is not None
        return found

    def _hidden_name(self, name: str) -> str:
        return PLACE if name == PLACE else hidden_name(self.special[name])

    def _check(self, ids: Sequence[int], own: Sequence[str]) -> None:
        """Raise DataError unless the special ids are those that the template wrote."""
        counted = set(self.special.values()) - {unknown_id(self.backend)}
        written = "".join(self.frames.get(name, name) for name in own)
        names = [found[0] for found in self.pattern.finditer(written)]
        expected = [self.special[name] for name in names if name != PLACE]
        if [number for number in ids if number in counted] != [number for number in expected if number in counted]:
            raise DataError("the text spells a special token in a way that the tokenizer cannot tell apart; change it.")

    @cached_property
    def _plain(self) -> Backend:
        backend = Backend.from_str(self.backend.to_str())
        return _completed(backend, {name: name for name in self.special})

    @cached_property
    def _hidden(self) -> Backend:
        backend = text_backend(self.backend, set(self.special.values()))
        backend.encode_special_tokens = False
        return _completed(backend, {name: hidden_name(number) for name, number in self.special.items()})


def _completed(backend: Backend, names: Mapping[str, str]) -> Backend:
    """The backend with all of its special tokens added as such, and PLACE; offsets include spaces."""
    backend.post_processor = None
    added = {token.content for token in backend.get_added_tokens_decoder().values()}
    missing = [name for name in names.values() if name not in added]
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in [*missing, PLACE]])
    return backend


def _between(spans: Sequence[Span], length: int) -> list[Span]:
    edges = [0, *(edge for span in spans for edge in span), length]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _moved(offsets: Sequence[Span], pieces: Sequence[tuple[str, Span]]) -> list[Span]:
    """Offsets in pieces that were written one after the other, as offsets in the text that they are from."""
    begins, at = [], 0
    for piece, _span in pieces:
        begins.append(at)
        at += len(piece)
    found = []
    number = 0
    for first, stop in offsets:
        while number + 1 < len(pieces) and begins[number + 1] <= first:
            number += 1
        last = number
        while last + 1 < len(pieces) and begins[last + 1] < stop:
            last += 1
        found.append((_place(first, number, begins, pieces, False), _place(stop, last, begins, pieces, True)))
    return found


def _place(offset: int, number: int, begins: Sequence[int], pieces: Sequence[tuple[str, Span]], is_stop: bool) -> int:
    piece, (first, stop) = pieces[number]
    if len(piece) == stop - first and number % 2 == 0:
        return first + offset - begins[number]
    return stop if is_stop else first
