"""Writes the prepared format into a folder beside the target, which one rename publishes."""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from counterpoint.errors import DataError
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import MOST_PIXELS
from counterpoint.sources.prepared.index import (
    ARROW_NAME,
    COUNTED,
    FORMAT,
    MANIFEST_NAME,
    PAYLOAD_NAME,
    TOKENIZER_NAME,
    VERSION,
    Manifest,
    file_digest,
)
from counterpoint.sources.prepared.part import Counts, PartWriter, Record
from counterpoint.sources.prepared.stores import Store, stores_digest, write_stores


class IndexWriter:
    """Collects records in a temporary folder, by default beside `out`; `publish` renames it to `out`, any other exit
    deletes it.

    The caller writes the tokenizer to `folder / TOKENIZER_NAME` before `publish`. `chat` names the chat template. A
    picture with more than `most_pixels` is an error.
    """

    def __init__(self, out: Path, most_pixels: int = MOST_PIXELS, folder: Path | None = None) -> None:
        self.out, self._most_pixels = out, most_pixels
        self.chat = "plain"
        self.chat_sha256: str | None = None
        self.folder = out.parent / f".{out.name}.partial-{os.getpid()}" if folder is None else folder
        self._open_files = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another folder, or clear the way."
            ) from error
        part = PartWriter(self.folder / ARROW_NAME, self.folder / PAYLOAD_NAME, self._most_pixels)
        self._part = self._open_files.enter_context(part)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._open_files.close()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, record: Record) -> None:
        """Append a document; raises DataError if it is inconsistent or an item cannot be read."""
        self._part.add(record)

    def append(self, arrow: Path, payload: Path, counts: Counts) -> None:
        """Append a part that another process has written; raises DataError if it cannot be read."""
        self._part.append(arrow, payload, counts)

    def publish(self) -> tuple[Manifest, bool]:
        """Rename the finished folder to `out`; the flag is False if `out` already was an equal index.

        Raises DataError if `out` holds something else.
        """
        self._part.close()
        stores = [Store.of(kind, path, self.out) for kind, path in self._part.counts.stores]
        write_stores(self.folder, stores)
        manifest = self._manifest(stores)
        manifest.write(self.folder)
        if (self.out / MANIFEST_NAME).is_file():
            if self._holds(manifest):
                return manifest, False
            raise DataError(f"{self.out}: holds a different index; remove the folder or choose another one.")
        check_free(self.out)
        self.folder.rename(self.out)
        return manifest, True

    def _holds(self, manifest: Manifest) -> bool:
        """Whether `out` is an equal index; False if this version cannot read it."""
        try:
            return Manifest.read(self.out) == manifest
        except DataError:
            return False

    def _manifest(self, stores: list[Store]) -> Manifest:
        arrow, payload, written = self.folder / ARROW_NAME, self.folder / PAYLOAD_NAME, self._part.counts
        keys = [key for modality in MODALITIES.values() for key in modality.counts]
        counts = {key: written.items[key] for key in keys if key in COUNTED or written.items[key]}
        return Manifest(
            format=FORMAT,
            version=VERSION,
            tokenizer_sha256=file_digest(self.folder / TOKENIZER_NAME),
            marks={kind: one.mark for kind, one in MODALITIES.items() if not counts.keys().isdisjoint(one.counts)},
            documents=written.splits.total(),
            tokens=written.tokens,
            counts=counts,
            splits=dict(written.splits),
            arrow_bytes=arrow.stat().st_size,
            arrow_sha256=file_digest(arrow),
            payload_bytes=payload.stat().st_size,
            payload_sha256=file_digest(payload),
            chat=self.chat,
            stores_sha256=stores_digest(stores),
            chat_sha256=self.chat_sha256,
        )


def check_free(out: Path) -> None:
    """Raise DataError if there is something at `out` that is neither an index nor an empty folder."""
    if (out / MANIFEST_NAME).is_file():
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is no index; remove it or choose another folder.")
