"""What is wrong with the documents of a prepared folder: every text and file is read, and each finding counted."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from counterpoint.data.text.formats import chat_format
from counterpoint.data.text.tokenizer import Tokenizer
from counterpoint.errors import DataError
from counterpoint.inspection.data_checks import marks_in, odd_characters
from counterpoint.kinds.arrays import Bools, Ints
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import LARGEST_LIMIT
from counterpoint.modalities.preview import preview_of
from counterpoint.sources.prepared.index import TOKENIZER_NAME, Index, ItemEntry
from counterpoint.sources.prepared.item_table import list_lengths
from counterpoint.sources.prepared.part import show_extent

MOST_PLACES = 10
"""Places that are named for each kind of finding."""

_SHORT_ANSWER = 4
"""Answers of more tokens are not looked into for being empty."""

_AT_ONCE = 16
"""Pictures of a video that are in memory together."""

KINDS = {
    "unreadable": "items that cannot be decoded",
    "other_size": "items of another size than the index says",
    "odd_item": "items of an extreme shape",
    "without_loss": "documents without a loss token",
    "empty_answer": "documents with an empty answer",
    "duplicate": "documents that their split has already",
    "leak": "documents of another split that train has, too",
    "mark": "documents with a mark as a plain word",
    "odd_text": "documents with odd characters",
    "too_long": "documents longer than a sequence",
}
"""What is counted, by its name."""

TRAIN = "train"


@dataclass(slots=True)
class Finding:
    """A kind of finding: what it is, how often it was found, and the first places, in words."""

    what: str
    count: int = 0
    places: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lint:
    """The findings in `checked` of the `documents` of a folder, by their names in KINDS."""

    folder: str
    documents: int
    checked: int
    findings: dict[str, Finding]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


class _Document(NamedTuple):
    """A document of an index, its payload unread."""

    place: str
    split: str
    tokens: Ints
    loss: Bools
    text: str
    items: Sequence[ItemEntry]


def lint(
    folder: Path, sample: int | None = None, config: Path | None = None, sequence_tokens: int | None = None
) -> Lint:
    """Read the documents of a prepared folder, all or `sample` evenly spaced ones, with their files.

    Documents are too long if they have more rows than a sequence of `config`, or more tokens than `sequence_tokens`;
    without both none is. Raises DataError for a folder that cannot be read, ConfigError for a bad config.
    """
    index = Index(folder)
    total = index.manifest.documents
    count = total if sample is None else min(sample, total)
    # Training documents are read first, so that what repeats one of them is a leak.
    splits = sorted(index.manifest.splits, key=lambda name: (name != TRAIN, name))
    split_of = {int(row): split for split in splits for row in index.rows_of(split)}
    rows = sorted({number * total // count for number in range(count)}) if count else []
    found: dict[str, Finding] = {}
    checks = _Checks(index)
    long_rows = _rows_too_long(index, config, sequence_tokens)
    for split in splits:
        for row in (row for row in rows if split_of[row] == split):
            document = _document(index, row, split)
            for kind, words in checks.of(document):
                _note(found, kind, f"{document.place}: {words}" if words else document.place)
            if row in long_rows:
                _note(found, "too_long", document.place)
    return Lint(str(folder), total, count, found)


def _note(found: dict[str, Finding], kind: str, place: str) -> None:
    finding = found.setdefault(kind, Finding(KINDS[kind]))
    finding.count += 1
    if len(finding.places) < MOST_PLACES:
        finding.places.append(place)


def _document(index: Index, row: int, split: str) -> _Document:
    tokens, loss = index.tokens(row)
    return _Document(f"{split}, row {row}", split, tokens, loss, index.text(row), index.items(row))


def _rows_too_long(index: Index, config: Path | None, sequence_tokens: int | None) -> set[int]:
    """The rows of documents that a sequence has no room for."""
    if config is not None:
        from counterpoint.inspection.data_view import DataView

        view = DataView.of(config, sequence_tokens)
        opened = (view.open(index.folder, split) for split in index.manifest.splits)
        return {row for source in opened for row in source.shortened.tolist()}
    lengths = list_lengths(index, "tokens")
    return set() if sequence_tokens is None else set(np.flatnonzero(lengths > sequence_tokens).tolist())


class _Checks:
    """The checks of documents, one after another; documents that are alike are found by their digests."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._tokenizer = Tokenizer.load(index.folder / TOKENIZER_NAME)
        self._ends = chat_format(index, self._tokenizer).ends
        self._seen: dict[tuple[str, bytes], str] = {}

    def of(self, document: _Document) -> Iterator[tuple[str, str]]:
        """What is found in a document, each with details."""
        if not document.loss.any():
            yield "without_loss", ""
        elif any(self._is_empty(answer) for answer in answers(document.tokens, document.loss, self._ends)):
            yield "empty_answer", ""
        marks = marks_in(document.text)
        if marks:
            yield "mark", ", ".join(marks)
        odd = list(odd_characters(document.text))
        if odd:
            yield "odd_text", "; ".join(odd)
        digest = hashlib.sha256(document.tokens.tobytes() + document.loss.tobytes())
        for item in document.items:
            digest.update(repr((item.kind, item.position, item.extent)).encode())
            yield from self._of_item(item, digest)
        yield from self._alike(document, digest.digest())

    def _of_item(self, item: ItemEntry, digest: "hashlib._Hash") -> Iterator[tuple[str, str]]:
        preview, name = preview_of(item.kind), self._named(item)
        try:
            for first in range(0, item.pictures, _AT_ONCE):
                files = self._index.item_files(item, slice(first, first + _AT_ONCE))
                for data in files:
                    digest.update(hashlib.sha256(data).digest())
                sizes = {MODALITIES[item.kind].extent(data, LARGEST_LIMIT) for data in files}
                other = next((size for size in sorted(sizes) if size != item.extent), None)
                if other is not None:
                    yield "other_size", f"{name}: {show_extent(other)}, indexed as {show_extent(item.extent)}"
                    break
                if preview is not None:
                    preview.stored(files, item.extent)
        except DataError as error:
            yield "unreadable", f"{name}: {error}"
        oddity = None if preview is None else preview.oddity(item.extent)
        if oddity is not None:
            yield "odd_item", f"{name}: {show_extent(item.extent)}, {oddity}"

    def _alike(self, document: _Document, digest: bytes) -> Iterator[tuple[str, str]]:
        first = self._seen.setdefault((document.split, digest), document.place)
        if first != document.place:
            yield "duplicate", f"as {first}"
        in_train = self._seen.get((TRAIN, digest))
        if document.split != TRAIN and in_train is not None:
            yield "leak", f"as {in_train}"

    def _is_empty(self, answer: Sequence[int]) -> bool:
        return len(answer) <= _SHORT_ANSWER and not self._tokenizer.decode(answer).strip()

    def _named(self, item: ItemEntry) -> str:
        return f"{item.kind} {self._index.file_names(item)}".strip()


def answers(tokens: Ints, loss: Bools, ends: Collection[int]) -> Iterator[list[int]]:
    """The answers of a document: runs of targets, each up to one of the tokens `ends`.

    What follows such a token at once, without an end of its own, is none.
    """
    answer: list[int] = []
    is_behind = False
    for token, is_target in zip(tokens.tolist(), loss.tolist(), strict=True):
        if is_target:
            answer.append(token)
        if answer and (not is_target or token in ends):
            if is_target or not is_behind:
                yield answer
            answer, is_behind = [], is_target
        elif not is_target:
            is_behind = False
    if answer and not is_behind:
        yield answer
