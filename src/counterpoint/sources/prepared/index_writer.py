"""Writes the prepared format into a folder beside the target, which one rename publishes."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa  # type: ignore[import-untyped]

from counterpoint.errors import DataError
from counterpoint.kinds.modality import SIZES, Extent, Modality
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import IMAGES, MOST_PIXELS
from counterpoint.sources.prepared.index import (
    ARROW_NAME,
    COUNTED,
    FILES_NAME,
    FORMAT,
    MANIFEST_NAME,
    PAYLOAD_NAME,
    SCHEMA,
    TOKENIZER_NAME,
    VERSION,
    Manifest,
    file_digest,
)

BATCH_DOCUMENTS = 1024


class Encoded(NamedTuple):
    """An item to write: the token that it precedes, its encoded bytes and its kind.

    A video is an image with `further` pictures after the first. `names` are the names of its files.
    """

    position: int
    data: bytes
    kind: str = IMAGES.name
    further: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[bytes, ...]:
        """All of its encoded files."""
        return (self.data, *self.further)


@dataclass(frozen=True, slots=True)
class Record:
    """One document to write: `loss` (tokens,) marks the targets, `items` are sorted by position."""

    tokens: Sequence[int]
    loss: Sequence[bool]
    split: str
    text: str
    items: Sequence[Encoded] = ()


class IndexWriter:
    """Collects records in a temporary folder beside `out`; `publish` renames it to `out`, any other exit deletes it.

    The caller writes the tokenizer to `folder / TOKENIZER_NAME` before `publish`. `chat` names the chat template. A
    picture with more than `most_pixels` is an error.
    """

    def __init__(self, out: Path, most_pixels: int = MOST_PIXELS) -> None:
        self.out, self._most_pixels = out, most_pixels
        self.chat = "plain"
        self.folder = out.parent / f".{out.name}.partial-{os.getpid()}"
        self._open_files = ExitStack()
        self._batch: list[dict[str, object]] = []
        self._splits: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._tokens = self._offset = 0

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another folder, or clear the way."
            ) from error
        self._payload = self._open_files.enter_context((self.folder / PAYLOAD_NAME).open("wb"))
        arrow_file = self._open_files.enter_context((self.folder / ARROW_NAME).open("wb"))
        self._names = self._open_files.enter_context((self.folder / FILES_NAME).open("w", encoding="utf-8"))
        self._arrow = self._open_files.enter_context(pa.ipc.new_file(arrow_file, SCHEMA))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_files.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, record: Record) -> None:
        """Append a document; raises DataError if it is inconsistent or an item cannot be read."""
        positions = [item.position for item in record.items]
        if positions != sorted(positions) or (
            positions and not 0 <= positions[0] <= positions[-1] <= len(record.tokens)
        ):
            raise DataError(
                f"item positions {positions} do not ascend within 0 to {len(record.tokens)}; correct the record."
            )
        if len(record.loss) != len(record.tokens):
            raise DataError(f"{len(record.loss)} loss marks for {len(record.tokens)} tokens; correct the record.")
        items = []
        for item in record.items:
            try:
                items.append(self._add_item(item))
            except DataError as error:
                if not item.names:
                    raise
                raise DataError(f"file {item.names[0]}: {error}") from error
        row: dict[str, object] = {
            "tokens": record.tokens,
            "loss": record.loss,
            "split": record.split,
            "text": record.text,
            "items": items,
        }
        self._batch.append(row)
        self._splits[record.split] += 1
        self._tokens += len(record.tokens)
        if len(self._batch) == BATCH_DOCUMENTS:
            self._flush()

    def publish(self) -> tuple[Manifest, bool]:
        """Rename the finished folder to `out`; the flag is False if `out` already was an equal index.

        Raises DataError if `out` holds something else.
        """
        self._flush()
        self._open_files.close()
        manifest = self._manifest()
        manifest.write(self.folder)
        if (self.out / MANIFEST_NAME).is_file():
            if self._holds(manifest):
                return manifest, False
            raise DataError(f"{self.out}: holds a different index; remove the folder or choose another one.")
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise DataError(f"{self.out}: exists and is no index; remove it or choose another folder.")
        self.folder.rename(self.out)
        return manifest, True

    def _holds(self, manifest: Manifest) -> bool:
        """Whether `out` is an equal index; False if this version cannot read it."""
        try:
            return Manifest.read(self.out) == manifest
        except DataError:
            return False

    def _manifest(self) -> Manifest:
        arrow, payload = self.folder / ARROW_NAME, self.folder / PAYLOAD_NAME
        keys = [key for modality in MODALITIES.values() for key in modality.counts]
        counts = {key: self._counts[key] for key in keys if key in COUNTED or self._counts[key]}
        return Manifest(
            format=FORMAT,
            version=VERSION,
            tokenizer_sha256=file_digest(self.folder / TOKENIZER_NAME),
            marks={kind: one.mark for kind, one in MODALITIES.items() if not counts.keys().isdisjoint(one.counts)},
            documents=self._splits.total(),
            tokens=self._tokens,
            counts=counts,
            splits=dict(self._splits),
            arrow_bytes=arrow.stat().st_size,
            arrow_sha256=file_digest(arrow),
            payload_bytes=payload.stat().st_size,
            payload_sha256=file_digest(payload),
            chat=self.chat,
        )

    def _add_item(self, item: Encoded) -> dict[str, object]:
        modality, offset = MODALITIES[item.kind], self._offset
        extent = self._extent(modality, item.files)
        if item.names:
            self._names.write(json.dumps([offset, *item.names]) + "\n")
        for data in item.files:
            self._payload.write(data)
            self._offset += len(data)
        self._counts[modality.count(len(item.files))] += 1
        sizes = dict.fromkeys(SIZES, 0) | dict(zip(modality.columns, extent, strict=True))
        return {
            "kind": item.kind, "position": item.position, **sizes, "offset": offset,
            "lengths": [len(data) for data in item.files],
        }  # fmt: skip

    def _extent(self, modality: Modality, files: Sequence[bytes]) -> Extent:
        """The size of an item; raises DataError if its files differ in size, or if its modality allows only one."""
        if len(files) > 1 and not modality.has_lists:
            raise DataError(
                f"an item of kind {modality.name} has {len(files)} files, expected one; only images make a video."
            )
        extent, *others = [modality.extent(data, self._most_pixels) for data in files]
        for number, other in enumerate(others, start=2):
            if other != extent:
                raise DataError(
                    f"picture {number} of the {len(files)} of a video is {show_extent(other)} pixels, but the first is "
                    f"{show_extent(extent)}; give all pictures of a video one size."
                )
        return extent

    def _flush(self) -> None:
        if self._batch:
            self._arrow.write_batch(pa.RecordBatch.from_pylist(self._batch, schema=SCHEMA))
            self._batch.clear()


def show_extent(extent: Extent) -> str:
    """A size in words."""
    return "x".join(map(str, extent))
