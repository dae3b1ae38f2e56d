"""The conversations of a folder, or of one file, each with the place that messages name."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from counterpoint.data.prepare.media import Roots
from counterpoint.data.prepare.readers import READERS
from counterpoint.data.prepare.shapes.turns import Parsed, parse_record
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.data.text.chat import Message
from counterpoint.data.text.tokenizer import check_text
from counterpoint.errors import DataError

_ARRAY = ".json"


@dataclass(frozen=True, slots=True)
class Conversation:
    """One record: its file and line, its split, its turns, and what of it was not read."""

    place: str
    split: str
    messages: tuple[Message, ...]
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordFiles:
    """The files of a dataset by name, each with its reader's key; `others` are *.json without an array."""

    files: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...] = ()

    @classmethod
    def of(cls, source: Path) -> "RecordFiles":
        """The files of a folder, or one file; raises DataError if there is none."""
        if source.is_file():
            return cls(((source, _reader_of(source) or _by_suffix(source)),))
        taken = [(file, _reader_of(file)) for file in sorted(source.iterdir()) if file.is_file()]
        files = tuple((file, reader) for file, reader in taken if reader is not None)
        if not files:
            raise DataError(
                f"{source}: no *.jsonl file in it, nor a *.json with an array; expected records of conversations, one "
                "JSON object a line."
            )
        return cls(files, tuple(file for file, reader in taken if reader is None and file.suffix == _ARRAY))

    def shards(self, split: str | None = None) -> Iterator[Shard]:
        """All shards, or those of a split; raises DataError naming a file that cannot be read."""
        for file, reader in self.files:
            try:
                check_text(file.stem)
            except DataError as error:
                raise DataError(f"{file!r}: {error}") from None
            if split in (None, file.stem):
                yield from READERS[reader].shards(file, file.stem)


def conversation_of(row: Row, split: str, roots: Roots) -> Conversation:
    """The conversation of a row; raises DataError, which does not name the row."""
    if isinstance(row.values, DataError):
        raise row.values
    parsed: Parsed = parse_record(row.values, roots.find)
    return Conversation(row.place, split, parsed.messages, parsed.labels, parsed.words)


def _reader_of(file: Path) -> str | None:
    return next((name for name, reader in READERS.items() if reader.takes(file)), None)


def _by_suffix(file: Path) -> str:
    return "json_array" if file.suffix == _ARRAY else "json_lines"
