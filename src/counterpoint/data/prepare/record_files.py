"""The conversations of a folder, or of one file, each with the place that messages name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from counterpoint.data.prepare.dataset_files import DataFile, DatasetFiles
from counterpoint.data.prepare.readers import READERS
from counterpoint.data.prepare.reading import FileShape, Reading
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.prepare.shards import Row, Shard
from counterpoint.data.text.chat import Message, Tools
from counterpoint.errors import DataError


@dataclass(frozen=True, slots=True)
class Conversation:
    """One record: its file and line, its split, its turns, and what of it was not read, or was taken in a way that it
    does not say."""

    place: str
    split: str
    messages: tuple[Message, ...]
    labels: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    tools: Tools = ()


@dataclass(frozen=True)
class RecordFiles:
    """The files of a dataset, and how they are read."""

    dataset: DatasetFiles
    reading: Reading = field(default_factory=Reading)

    @classmethod
    def of(cls, source: Path, subsets: Sequence[str] = (), reading: Reading | None = None) -> "RecordFiles":
        """The files of a folder, or one file; raises DataError if there is none, or one whose shape is not known."""
        found = cls(DatasetFiles.of(source, subsets), reading or Reading())
        _shapes = found.shapes
        return found

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of its files, each once."""
        return tuple(dict.fromkeys(file.split for file in self.dataset.files))

    @cached_property
    def shapes(self) -> tuple[FileShape, ...]:
        """The shape of each file."""
        return tuple(self._shape(file) for file in self.dataset.files)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Files and columns that are not read, in words."""
        unread = Counter(column for shape in self.shapes for column in shape.unread)
        return (
            *self.dataset.others,
            *(f"column '{column}' of {count} files: not read" for column, count in sorted(unread.items())),
        )

    def shards(self, split: str | None = None) -> Iterator[Shard]:
        """All shards, or those of a split; raises DataError naming a file that cannot be read."""
        for file, shape in zip(self.dataset.files, self.shapes, strict=True):
            if split in (None, file.split):
                for shard in READERS[file.reader].shards(file.file, file.split):
                    yield replace(shard, shape=shape.name, columns=shape.columns)

    def _shape(self, file: DataFile) -> FileShape:
        reader = READERS[file.reader]
        columns = reader.columns(file.file)
        try:
            return self.reading.shape(columns, is_declared=reader.is_declared)
        except DataError as error:
            raise DataError(f"{file.file}: {error}") from None


def conversation_of(row: Row, shard: Shard, roots: Roots, reading: Reading) -> Conversation | None:
    """The conversation of a row, None if the condition leaves it out; raises DataError, which does not name the row."""
    parsed = reading.parse(shard.shape, row.values, roots.find)
    if parsed is None:
        return None
    return Conversation(
        row.place, shard.split, parsed.messages, parsed.labels, parsed.words, parsed.notes, parsed.tools
    )
