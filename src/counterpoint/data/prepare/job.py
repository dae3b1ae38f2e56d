"""What every process of a preparation does: from a shard to a part of the index."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from counterpoint.data.prepare.media import encoded
from counterpoint.data.prepare.options import SKIP, PrepareOptions
from counterpoint.data.prepare.readers import READERS
from counterpoint.data.prepare.reading import Reading
from counterpoint.data.prepare.record_files import Conversation, conversation_of
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.prepare.shards import Shard
from counterpoint.data.prepare.videos import see_videos
from counterpoint.data.prepare.work import Part, PartFiles
from counterpoint.data.text.chat import TURN_END, ChatFormat
from counterpoint.data.text.timestamps import write_timestamps
from counterpoint.errors import DataError, MissingFileError, RunError
from counterpoint.sources.prepared.part import PartWriter, Record

_TICK_ROWS = 64
LEFT_OUT = "left out by --where"


class Tick(NamedTuple):
    """Progress since the last one: rows that were read, bytes of their items, bad ones, finished shards, and shards
    that there are."""

    rows: int = 0
    bytes: int = 0
    bad: int = 0
    shards: int = 0
    known: int = 0


Watch = Callable[[Tick], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One preparation, as its processes need it: `folder` holds the tokenizer and the parts."""

    folder: Path
    chat: ChatFormat
    roots: Roots
    options: PrepareOptions
    reading: Reading


class Preparer:
    """Prepares shards of a job one after the other."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def run(self, number: int, shard: Shard, watch: Watch) -> None:
        """Write part `number`; raises DataError for a bad sample that is not to be left out."""
        files = PartFiles.of(self._job.folder, number)
        partial = files.partial
        try:
            with PartWriter(partial.arrow, partial.payload, self._job.options.most_pixels) as writer:
                part = self._prepare(shard, writer, watch)
                writer.close()
            files.finish(part)
        except OSError as error:
            raise RunError(
                f"{files.arrow}: cannot be written ({error.strerror}); make room, and run the command again: finished "
                "parts are kept."
            ) from error
        watch(Tick(shards=1))

    def _prepare(self, shard: Shard, writer: PartWriter, watch: Watch) -> Part:
        part, said = Part(counts=writer.counts), Tick()
        read = 0
        for row in READERS[shard.reader].rows(shard):
            part.rows += 1
            try:
                conversation = conversation_of(row, shard, self._job.roots, self._job.reading)
                if conversation is None:
                    part.notes[LEFT_OUT] += 1
                    continue
                record, notes = make_record(conversation, self._job.chat, self._job.roots, self._job.options)
                writer.add(record)
            except DataError as error:
                if not self._is_left_out(error):
                    raise DataError(f"{row.place}: {error}") from error
                part.faults.add(row.place, error)
            else:
                part.labels.update(conversation.labels)
                part.words.update(conversation.words)
                part.notes.update((*conversation.notes, *notes))
                read += sum(len(data) for item in record.items for data in item.files)
            if part.rows % _TICK_ROWS == 0:
                watch(Tick(part.rows - said.rows, read - said.bytes, part.faults.count - said.bad))
                said = Tick(part.rows, read, part.faults.count)
        watch(Tick(part.rows - said.rows, read - said.bytes, part.faults.count - said.bad))
        return part

    def _is_left_out(self, error: DataError) -> bool:
        options = self._job.options
        is_tolerated = isinstance(error, MissingFileError) and options.missing_share > 0
        return is_tolerated or options.on_error == SKIP


def make_record(
    conversation: Conversation, chat: ChatFormat, roots: Roots, options: PrepareOptions
) -> tuple[Record, tuple[str, ...]]:
    """A conversation as a document of the index, and what of it was taken otherwise; raises DataError naming a file
    that cannot be read."""
    messages = see_videos(conversation.messages, options.frames, options.most_pixels)
    laid = chat.lay(messages, conversation.tools)
    if options.has_timestamps and any(medium.is_video for _position, medium in laid.media):
        laid = write_timestamps(laid, chat.tokenizer)
    said = TURN_END.join(message.text.strip() for message in conversation.messages)
    items = [encoded(position, medium, roots, is_copied=options.copy) for position, medium in laid.media]
    return Record(laid.tokens, laid.loss, conversation.split, said, items), laid.notes
