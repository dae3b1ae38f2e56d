"""Files with one JSON object a line."""

from collections.abc import Iterator
from pathlib import Path
from typing import final

from counterpoint.data.prepare.readers.json_columns import seen_columns
from counterpoint.data.prepare.readers.json_text import decoder, unreadable
from counterpoint.data.prepare.shapes.shape import Columns
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.errors import DataError

SHARD_LINES = 1024
SHARD_BYTES = 16 * 2**20
_SUFFIX = ".jsonl"


@final
class JsonLinesReader:
    """Reads *.jsonl; a shard is a range of bytes that ends with a line, of SHARD_LINES lines or SHARD_BYTES bytes."""

    is_declared = False

    def takes(self, file: Path) -> bool:
        """Whether the file is named so."""
        return file.suffix.lower() == _SUFFIX

    def columns(self, file: Path) -> Columns:
        """The keys of the first records."""
        return seen_columns(self.rows(Shard("json_lines", file, 0, file.stat().st_size, "")))

    def shards(self, file: Path, split: str) -> list[Shard]:
        """Ranges of whole lines; raises DataError if no line holds anything."""
        found = []
        begin = at = 0
        first, line, is_empty = 1, 0, True
        try:
            with file.open("rb") as lines:
                for line, content in enumerate(lines, start=1):
                    at += len(content)
                    is_empty = is_empty and not content.strip()
                    if line - first + 1 == SHARD_LINES or at - begin >= SHARD_BYTES:
                        found.append(Shard("json_lines", file, begin, at, split, first))
                        begin, first = at, line + 1
        except OSError as error:
            raise unreadable(file, error) from error
        if is_empty:
            raise DataError(f"{file}: holds no record, expected at least one; fill the file or remove it.")
        return [*found, Shard("json_lines", file, begin, at, split, first)] if at > begin else found

    def rows(self, shard: Shard) -> Iterator[Row]:
        """The objects of the lines that are not blank."""
        reader = decoder()
        try:
            with shard.file.open("rb") as lines:
                lines.seek(shard.begin)
                at, number = shard.begin, shard.first
                while at < shard.stop and (line := lines.readline()):
                    if line.strip():
                        place = f"{shard.file}:{number}"
                        try:
                            values: object = reader.decode(line.decode("utf-8-sig"))
                        except (ValueError, RecursionError) as error:
                            values = DataError(f"not a JSON object ({error}); correct or remove the line.")
                        yield Row(place, values)
                    at, number = at + len(line), number + 1
        except OSError as error:
            raise unreadable(shard.file, error) from error
