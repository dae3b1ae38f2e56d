"""Files with one JSON array of objects, read through a window, so that a file may be larger than memory."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, final

from counterpoint.data.prepare.readers.json_columns import seen_columns
from counterpoint.data.prepare.readers.json_text import SPACE, decoder, unreadable
from counterpoint.data.prepare.shapes.shape import Columns
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.errors import DataError

SHARD_ELEMENTS = 1024
SHARD_CHARACTERS = 16 * 2**20
WINDOW_BYTES = 2**20
_SUFFIX = ".json"
_LOOKED_AT = 64
_OF_NUMBERS = "0123456789+-.eE"
_BLANKS = re.compile(f"[{SPACE}]*")


class _Place(NamedTuple):
    byte: int
    line: int


@final
class JsonArrayReader:
    """Reads *.json that begin an array; a shard is the range of bytes of SHARD_ELEMENTS elements, or fewer."""

    is_declared = False

    def takes(self, file: Path) -> bool:
        """Whether the file is named so and begins with a bracket."""
        if file.suffix.lower() != _SUFFIX:
            return False
        try:
            with file.open("rb") as opened:
                begin = opened.read(_LOOKED_AT)
        except OSError as error:
            raise unreadable(file, error) from error
        return begin.decode("utf-8-sig", errors="replace").lstrip(SPACE).startswith("[")

    def columns(self, file: Path) -> Columns:
        """The keys of the first records."""
        try:
            with file.open("rb") as opened:
                begin, stop = next(_ranges(_Window(opened, file)))
        except OSError as error:
            raise unreadable(file, error) from error
        except (DataError, StopIteration):
            # Making shards says so.
            return {}
        return seen_columns(self.rows(Shard("json_array", file, begin.byte, stop.byte, "", begin.line)))

    def shards(self, file: Path, split: str) -> list[Shard]:
        """Ranges of whole elements; raises DataError if the file is no array, or an empty one."""
        found = []
        try:
            with file.open("rb") as opened:
                for begin, stop in _ranges(_Window(opened, file)):
                    found.append(Shard("json_array", file, begin.byte, stop.byte, split, begin.line))
        except OSError as error:
            raise unreadable(file, error) from error
        if not found:
            raise DataError(f"{file}: holds no record, expected at least one; fill the file or remove it.")
        return found

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The elements of a range."""
        try:
            with shard.file.open("rb") as opened:
                opened.seek(shard.begin)
                data = opened.read(shard.stop - shard.begin)
        except OSError as error:
            raise unreadable(shard.file, error) from error
        reader, plain = decoder(), json.JSONDecoder()
        at, line, counted = 0, shard.first, 0
        try:
            text = data.decode()
            while at < len(text):
                line, counted = line + text.count("\n", counted, at), at
                _value, end = plain.raw_decode(text, at)
                try:
                    value: object = reader.decode(text[at:end])
                except ValueError as error:
                    value = DataError(f"not a JSON object ({error}); correct or remove the record.")
                yield Row(f"{shard.file}:{line}", value)
                at = _after_blanks(text, _after_blanks(text, end) + 1)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{shard.file}: has changed while it was read ({error}); prepare it again.") from error


def _ranges(window: "_Window") -> Iterator[tuple[_Place, _Place]]:
    """Where each shard begins and ends: at an element, or at the end of the array."""
    if window.next() != "[":
        raise DataError(
            f"{window.path}: is no JSON array, expected one of records; write one object a line to a .jsonl file."
        )
    window.at += 1
    is_last = window.next() == "]"
    while not is_last:
        begin, first, count = window.place, window.characters, 0
        while not is_last and count < SHARD_ELEMENTS and window.characters - first < SHARD_CHARACTERS:
            window.skip_value()
            count += 1
            after = window.next()
            if after not in ("]", ","):
                raise DataError(
                    f"{window.path}:{window.place.line}: not JSON (expected ',' or ']' after a record); correct the "
                    "file."
                )
            is_last = after == "]"
            if not is_last:
                window.at += 1
                window.next()
        yield begin, window.place
    window.at += 1
    if window.next():
        raise DataError(f"{window.path}: goes on after its array, expected nothing there; correct the file.")


class _Window:
    """The text of a file from some place on, of which `at` is the next character."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self.path = file, path
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text, self.at = "", 0
        self._before, self._gone, self._is_whole = _Place(0, 1), 0, False
        while not self._text and not self._is_whole:
            self._fill()
        if self._text.startswith("\ufeff"):
            self.at = 1

    @property
    def place(self) -> _Place:
        """The byte and the line of the next character."""
        passed = self._text[: self.at]
        return _Place(self._before.byte + len(passed.encode()), self._before.line + passed.count("\n"))

    @property
    def characters(self) -> int:
        """How many characters were passed."""
        return self._gone + self.at

    def next(self) -> str:
        """The next character that is not blank, empty at the end."""
        while True:
            self.at = _after_blanks(self._text, self.at)
            if self.at < len(self._text) or self._is_whole:
                return self._text[self.at : self.at + 1]
            self._fill()

    def skip_value(self) -> None:
        """Pass a value; raises DataError if it is none."""
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self.at)
            except (ValueError, RecursionError) as error:
                if self._is_whole:
                    raise DataError(
                        f"{self.path}:{self.place.line}: not a JSON object ({error}); correct or remove the record."
                    ) from error
            else:
                # A number may go on behind the window, also where "4.5" is 4 so far.
                is_open = isinstance(value, int | float) and not self._text[end:].strip(_OF_NUMBERS)
                if self._is_whole or (end < len(self._text) and not is_open):
                    self.at = end
                    return
            self._fill()

    def _fill(self) -> None:
        """Forget what was passed, and read on: twice as much each time as long as nothing is passed."""
        self._before, self._gone = self.place, self.characters
        self._text, self.at = self._text[self.at :], 0
        data = self._file.read(max(WINDOW_BYTES, len(self._text)))
        self._is_whole = not data
        try:
            self._text += self._utf8.decode(data, final=self._is_whole)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path}: is not UTF-8 ({error}), expected a JSON array; encode it again.") from error


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return at if found is None else found.end()
