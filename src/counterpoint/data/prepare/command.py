"""The command `prepare`: from a named corpus, or conversations in files, to an index."""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from counterpoint.argument import argument
from counterpoint.data.prepare.emoji import prepare_emoji
from counterpoint.data.prepare.faults import ERRORS_NAME
from counterpoint.data.prepare.hub import SCHEME, fetch
from counterpoint.data.prepare.job import Job, Tick, Watch
from counterpoint.data.prepare.layout import choose_layout, tokenizer_digest
from counterpoint.data.prepare.options import SKIP, PrepareOptions
from counterpoint.data.prepare.pool import prepare_shards, usable_cores
from counterpoint.data.prepare.readers import READERS
from counterpoint.data.prepare.reading import Reading
from counterpoint.data.prepare.record_files import RecordFiles
from counterpoint.data.prepare.roots import Roots
from counterpoint.data.prepare.shards import Shard
from counterpoint.data.prepare.work import Part, WorkFolder
from counterpoint.data.text.tokenizer import Tokenizer, copy_tokenizer, train_tokenizer
from counterpoint.errors import DataError, RunError
from counterpoint.sources.prepared.index import TOKENIZER_NAME, VERSION, Manifest
from counterpoint.sources.prepared.index_writer import IndexWriter, check_free

EMOJI = "emoji"
TRAIN_SPLIT = "train"
SHARDS_PER_WORKER = 4
"""A process costs seconds to start, so a source of few shards is prepared by fewer."""
_DEFAULTS = PrepareOptions()
_INDEX = "index"
_OF_EMOJI: Mapping[str, str | None] = {"seed": None}
_NOT_OF_EMOJI: Mapping[str, str | None] = {
    "images": None, "chat": None, "train_on": None, "date": None, "where": None, "maps": "--map", "subsets": "--subset",
    "addresses": None, "on_error": None, "most_missing": None, "copy": None, "fps": None, "max_frames": None,
    "timestamps": None,
}  # fmt: skip
"""Options that say nothing about the other kind of source, with their names on the command line."""


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """The index at `out`; `is_new` is False if the same index was there before, and `remarks` say what was not read."""

    out: Path
    manifest: Manifest
    vocabulary: int
    is_new: bool
    remarks: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """What is to be said of it."""
        manifest, state = self.manifest, "prepared" if self.is_new else "already there"
        splits = ", ".join(f"{name} {count}" for name, count in manifest.splits.items())
        items = "".join(f"{count} {key.replace('_', ' ')}, " for key, count in manifest.counts.items())
        counts = f"{manifest.documents} documents ({splits}), {items}{manifest.tokens} tokens"
        return (f"{self.out}: {state}: {counts}, vocabulary {self.vocabulary}", *self.remarks)


def _unwatched(_tick: Tick) -> None:
    """Nobody looks at the progress."""


def prepare(source: str, out: Path, options: PrepareOptions = _DEFAULTS, watch: Watch = _unwatched) -> PrepareSummary:
    """Build the index of `emoji`, or of conversations in a folder or a file; nothing appears at `out` unless all
    succeeds.

    A preparation that was interrupted goes on where it was. Raises DataError for a bad source or record, or if `out`
    holds something else, and RunError if a process dies or nothing can be written.
    """
    if source.startswith(SCHEME):
        source = str(fetch(source, options.subsets))
    if source != EMOJI and not (source and Path(source).exists()):
        raise DataError(
            f"prepare: source '{source}' is no folder and no file; expected '{EMOJI}', a folder with *.jsonl files or "
            "others that are read, one such file, or hf://datasets/OWNER/NAME."
        )
    _refuse_ignored(source, options)
    check_free(out)
    try:
        return _prepare_emoji(out, options) if source == EMOJI else _prepare_files(Path(source), out, options, watch)
    except OSError as error:
        # What is read has its own errors.
        raise RunError(
            f"{out}: cannot be written ({error.strerror or error}); make room or correct the rights, and run the "
            "command again."
        ) from error


def _prepare_emoji(out: Path, options: PrepareOptions) -> PrepareSummary:
    with IndexWriter(out, options.most_pixels) as writer:
        prepare_emoji(writer, options.seed, options.tokenizer)
        manifest, is_new = writer.publish()
    return _summary(out, manifest, is_new)


def _refuse_ignored(source: str, options: PrepareOptions) -> None:
    """Raise DataError for options that nothing would read."""
    unread, what = (_NOT_OF_EMOJI, f"'{EMOJI}', which has its own records") if source == EMOJI else (_OF_EMOJI, "files")
    given = [
        argument(name, option)
        for name, option in unread.items()
        if getattr(options, name) != getattr(_DEFAULTS, name)
    ]  # fmt: skip
    if given:
        raise DataError(f"{', '.join(given)}: nothing reads this for {what}; leave it out.")


def _summary(out: Path, manifest: Manifest, is_new: bool, remarks: tuple[str, ...] = ()) -> PrepareSummary:
    return PrepareSummary(out, manifest, Tokenizer.load(out / TOKENIZER_NAME).vocabulary, is_new, remarks)


def _prepare_files(source: Path, out: Path, options: PrepareOptions, watch: Watch) -> PrepareSummary:
    reading = options.reading
    files = RecordFiles.of(source, options.subsets, reading)
    folder = source if source.is_dir() else source.parent
    roots = Roots(folder, (*options.images, *files.dataset.roots), options.addresses)
    shards = tuple(files.shards())
    with WorkFolder(out, _content(source, files, options)) as work:
        tokenizer = work.folder / TOKENIZER_NAME
        layout = choose_layout(options, lambda file: _make_tokenizer(tokenizer, file, shards, options, reading))
        job = Job(work.folder, layout.chat, roots, options, reading)
        todo = [(number, shard) for number, shard in enumerate(shards) if work.part(number).read() is None]
        watch(Tick(shards=len(shards) - len(todo), known=len(shards)))
        most = usable_cores() if options.workers is None else options.workers
        few = len(todo) // SHARDS_PER_WORKER if options.workers is None else most
        prepare_shards(job, todo, max(1, min(most, few)), watch)
        shutil.rmtree(work.folder / _INDEX, ignore_errors=True)
        with IndexWriter(out, options.most_pixels, work.folder / _INDEX) as writer:
            total = _join(writer, work, len(shards))
            _check_missing(total, options)
            if total.faults.count:
                folders = (source, *options.images, roots.folder)
                (writer.folder / ERRORS_NAME).write_text("".join(total.faults.lines(folders)))
            shutil.copyfile(tokenizer, writer.folder / TOKENIZER_NAME)
            layout.keep(writer)
            manifest, is_new = writer.publish()
    return _summary(out, manifest, is_new, (
        *layout.remarks,
        *files.remarks,
        *(f"key '{key}' of {count} records: not read" for key, count in sorted(total.labels.items())),
        *(f"{mark}: a plain word in {count} records that have nothing to stand there" for mark, count in
          total.words.items()),
        *(f"{count} records: {note}" for note, count in sorted(total.notes.items())),
        *total.faults.remarks(),
    ))  # fmt: skip


def _content(source: Path, files: RecordFiles, options: PrepareOptions) -> object:
    """What decides the parts: finished ones serve a preparation with the same."""
    stats = [(file, file.stat()) for file, _reader, _split in files.dataset.files]
    given = asdict(options) | {
        "maps": repr(files.reading.mapping),
        "tokenizer": None if options.tokenizer is None else tokenizer_digest(options.tokenizer),
        "images": [str(folder.resolve()) for folder in options.images],
    }
    del given["workers"]
    return [
        version("counterpoint"), VERSION, str(source.resolve()), {key: str(value) for key, value in given.items()},
        [[os.fspath(file.resolve()), stat.st_size, stat.st_mtime_ns] for file, stat in stats],
    ]  # fmt: skip


def _make_tokenizer(
    path: Path, given: Path | None, shards: tuple[Shard, ...], options: PrepareOptions, reading: Reading
) -> Tokenizer:
    """Write the tokenizer, a given file or one of the data, unless an earlier process has."""
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        if given is None:
            split = TRAIN_SPLIT if any(shard.split == TRAIN_SPLIT for shard in shards) else None
            train_tokenizer(_texts(shards, split, options, reading), options.vocabulary, partial)
        else:
            copy_tokenizer(given, partial)
        partial.rename(path)
    return Tokenizer.load(path)


def _texts(shards: tuple[Shard, ...], split: str | None, options: PrepareOptions, reading: Reading) -> Iterator[str]:
    """The texts of a split; files are not looked up, which happens when their records become documents."""
    for shard in shards:
        if split not in (None, shard.split):
            continue
        for place, values in READERS[shard.reader].rows(shard):
            try:
                parsed = reading.parse(shard.shape, values, lambda _name, _what: b"")
            except DataError as error:
                if options.on_error == SKIP:
                    continue
                raise DataError(f"{place}: {error}") from error
            yield from (message.text for message in (() if parsed is None else parsed.messages))


def _join(writer: IndexWriter, work: WorkFolder, count: int) -> Part:
    """Append all parts in their order; returns their sum."""
    total = Part()
    for number in range(count):
        files = work.part(number)
        part = files.read()
        if part is None:
            raise DataError(f"{files.arrow}: is not whole; remove its folder and prepare again.")
        writer.append(files.arrow, files.payload, part.counts)
        total.update(part)
        total.counts.splits += part.counts.splits
    return total


def _check_missing(total: Part, options: PrepareOptions) -> None:
    """Raise DataError if more samples than allowed lack files, or if none is left."""
    share = total.faults.missing / max(1, total.rows)
    if share > options.missing_share:
        _reason, fault = next(item for item in total.faults.by_reason.items() if item[1].is_missing)
        raise DataError(
            f"files of {total.faults.missing} of {total.rows} samples are missing ({', '.join(fault.places)}: "
            f"{fault.message}): a share of {share:.3f}, expected at most {options.missing_share:g}; add the files, or "
            "raise --most-missing."
        )
    if not total.counts.splits:
        reasons = [
            *(f"left out {fault.count} ({', '.join(fault.places)}): {fault.message.removesuffix('.')}"
              for fault in total.faults.by_reason.values()),
            *(f"{count} {note}" for note, count in sorted(total.notes.items())),
        ]  # fmt: skip
        raise DataError(f"no sample is left of {total.rows}: {'; '.join(reasons)}.")
