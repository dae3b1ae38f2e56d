"""The command `prepare`: from a named corpus, or conversations in files, to an index."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from counterpoint.data.prepare.emoji import prepare_emoji
from counterpoint.data.prepare.media import Roots, encoded
from counterpoint.data.prepare.options import PrepareOptions
from counterpoint.data.prepare.record_files import Conversation, RecordFiles, conversations
from counterpoint.data.text.chat import TURN_END, ChatFormat, PlainChat
from counterpoint.data.text.tokenizer import Tokenizer, copy_tokenizer, train_tokenizer
from counterpoint.errors import DataError
from counterpoint.sources.prepared.index import TOKENIZER_NAME, Manifest
from counterpoint.sources.prepared.index_writer import IndexWriter, Record

EMOJI = "emoji"
TRAIN_SPLIT = "train"
_DEFAULTS = PrepareOptions()


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """The index at `out`; `is_new` is False if the same index was there before, and `remarks` say what was not read."""

    out: Path
    manifest: Manifest
    vocabulary: int
    is_new: bool
    remarks: tuple[str, ...] = ()


def prepare(source: str, out: Path, options: PrepareOptions = _DEFAULTS) -> PrepareSummary:
    """Build the index of `emoji`, or of conversations in a folder or a file; nothing appears at `out` unless all
    succeeds.

    Raises DataError for a bad source or record, or if `out` holds something else.
    """
    if source != EMOJI and not Path(source).exists():
        raise DataError(
            f"prepare: source '{source}' is no folder and no file; expected '{EMOJI}', a folder with *.jsonl files, or "
            "one such file."
        )
    if source == EMOJI and options.images:
        raise DataError(
            f"--images {options.images[0]}: means nothing for '{EMOJI}', which has its pictures; leave it out."
        )
    remarks: tuple[str, ...] = ()
    with IndexWriter(out, options.most_pixels) as writer:
        if source == EMOJI:
            prepare_emoji(writer, options.seed, options.tokenizer)
        else:
            remarks = _prepare_files(writer, Path(source), options)
        manifest, is_new = writer.publish()
    return PrepareSummary(out, manifest, Tokenizer.load(out / TOKENIZER_NAME).vocabulary, is_new, remarks)


def _prepare_files(writer: IndexWriter, source: Path, options: PrepareOptions) -> tuple[str, ...]:
    files = RecordFiles.of(source)
    roots = Roots(source if source.is_dir() else source.parent, options.images)
    path = writer.folder / TOKENIZER_NAME
    if options.tokenizer is None:
        split = TRAIN_SPLIT if any(file.stem == TRAIN_SPLIT for file, _reader in files.files) else None
        found = (each for shard in files.shards(split) for each in conversations(shard, roots))
        texts = (message.text for conversation in found for message in conversation.messages)
        tokenizer = train_tokenizer(texts, options.vocabulary, path)
    else:
        tokenizer = copy_tokenizer(options.tokenizer, path)
    chat = PlainChat(tokenizer)
    writer.chat = chat.name
    unread: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for conversation in (each for shard in files.shards() for each in conversations(shard, roots)):
        try:
            writer.add(make_record(conversation, chat))
        except DataError as error:
            raise DataError(f"{conversation.place}: {error}") from error
        unread.update(conversation.labels)
        words.update(conversation.words)
    return (
        *(f"{file}: not read, since it holds no array of records" for file in files.others),
        *(f"key '{key}' of {count} records: not read" for key, count in sorted(unread.items())),
        *(f"{mark}: a plain word in {count} records that have nothing to stand there" for mark, count in words.items()),
    )


def make_record(conversation: Conversation, chat: ChatFormat) -> Record:
    """A conversation as a document of the index; raises DataError naming a file that cannot be read."""
    laid = chat.lay(conversation.messages)
    said = TURN_END.join(message.text.strip() for message in conversation.messages)
    items = [encoded(position, medium) for position, medium in laid.media]
    return Record(laid.tokens, laid.loss, conversation.split, said, items)
