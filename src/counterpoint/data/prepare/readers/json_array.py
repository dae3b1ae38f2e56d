"""Files with one JSON array of objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import final

from counterpoint.data.prepare.readers.json_text import SPACE, decoder, unreadable
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.errors import DataError

_SUFFIX = ".json"
_LOOKED_AT = 64


@final
class JsonArrayReader:
    """Reads *.json that begin an array; a file is one shard."""

    def takes(self, file: Path) -> bool:
        """Whether the file is named so and begins with a bracket."""
        if file.suffix != _SUFFIX:
            return False
        try:
            with file.open("rb") as opened:
                begin = opened.read(_LOOKED_AT)
        except OSError as error:
            raise unreadable(file, error) from error
        return begin.decode("utf-8-sig", errors="replace").lstrip(SPACE).startswith("[")

    def shards(self, file: Path, split: str) -> list[Shard]:
        """The whole file."""
        return [Shard("json_array", file, 0, 0, split)]

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The elements of the array; only its text and one element are in memory at a time."""
        is_empty = True
        for line, values in _elements(shard.file):
            is_empty = False
            yield Row(f"{shard.file}:{line}", values)
        if is_empty:
            raise DataError(f"{shard.file}: holds no record, expected at least one; fill the file or remove it.")


def _elements(path: Path) -> Iterator[tuple[int, object]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error}), expected a JSON array; encode it again.") from error
    reader = decoder()
    at, line, counted = _after_space(text, 0), 1, 0
    if text[at : at + 1] != "[":
        raise DataError(f"{path}: is no JSON array, expected one of records; write one object a line to a .jsonl file.")
    at = _after_space(text, at + 1)
    is_first = True
    while text[at : at + 1] != "]":
        line, counted = line + text.count("\n", counted, at), at
        if not is_first:
            if text[at : at + 1] != ",":
                raise DataError(f"{path}:{line}: not JSON (expected ',' or ']' after a record); correct the file.")
            at = _after_space(text, at + 1)
            line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = reader.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{line}: not a JSON object ({error}); correct or remove the record.") from error
        yield line, value
        is_first, at = False, _after_space(text, end)
    if _after_space(text, at + 1) != len(text):
        raise DataError(f"{path}: goes on after its array, expected nothing there; correct the file.")


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in SPACE:
        at += 1
    return at
