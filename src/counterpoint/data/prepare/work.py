"""Finished parts of a preparation, kept in a folder beside the target until all are there.

A preparation that was killed goes on where it was.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from counterpoint.data.prepare.faults import Faults
from counterpoint.errors import DataError
from counterpoint.sources.prepared.part import Counts

_DIGITS = 16
_LOCK = "lock"


@dataclass(slots=True)
class Part:
    """What became of the rows of a shard: documents as counted, bad samples, and what of the records was not read."""

    rows: int = 0
    counts: Counts = field(default_factory=Counts)
    faults: Faults = field(default_factory=Faults)
    labels: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)

    def update(self, other: "Part") -> None:
        """Add those of a later part, but not what `IndexWriter.append` counts."""
        self.rows += other.rows
        self.faults.update(other.faults)
        self.labels += other.labels
        self.words += other.words
        self.notes += other.notes

    def values(self) -> dict[str, Any]:
        """As JSON holds it."""
        counts = self.counts
        stores = [(kind, str(path.absolute())) for kind, path in counts.stores]
        return {
            "rows": self.rows, "splits": counts.splits, "items": counts.items, "tokens": counts.tokens,
            "payload_bytes": counts.payload_bytes, "stores": stores,
            "faults": self.faults.values(), "labels": self.labels, "words": self.words,
            "notes": self.notes,
        }  # fmt: skip

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Part":
        """From JSON."""
        stores = {(kind, Path(path)): number for number, (kind, path) in enumerate(values["stores"], start=1)}
        splits, items = Counter(values["splits"]), Counter(values["items"])
        counts = Counts(splits, items, values["tokens"], values["payload_bytes"], stores)
        faults = Faults.of(values["faults"])
        said = (Counter(values[key]) for key in ("labels", "words", "notes"))
        return cls(values["rows"], counts, faults, *said)


@dataclass(frozen=True, slots=True)
class PartFiles:
    """The files of one part; `summary` appears last, when the others are whole."""

    arrow: Path
    payload: Path
    summary: Path

    @classmethod
    def of(cls, folder: Path, number: int) -> "PartFiles":
        """The files of part `number`."""
        stem = folder / f"{number:07}"
        return cls(*(stem.with_suffix(suffix) for suffix in (".arrow", ".bin", ".json")))

    @property
    def partial(self) -> "PartFiles":
        """The names of the files while this process writes them: another one, left by a kill, may write the same."""
        files = (self.arrow, self.payload, self.summary)
        return PartFiles(*(path.with_name(f"{path.name}.{os.getpid()}") for path in files))

    def finish(self, part: Part) -> None:
        """Give the written files their names, the summary last."""
        partial = self.partial
        sizes = {"arrow_file_bytes": partial.arrow.stat().st_size}
        partial.summary.write_text(json.dumps(part.values() | sizes))
        partial.arrow.rename(self.arrow)
        partial.payload.rename(self.payload)
        partial.summary.rename(self.summary)

    def read(self) -> Part | None:
        """The part, or None if it is not whole."""
        try:
            values = json.loads(self.summary.read_text())
            sizes = self.arrow.stat().st_size, self.payload.stat().st_size
            part = Part.of(values)
            return part if sizes == (values["arrow_file_bytes"], part.counts.payload_bytes) else None
        except (OSError, ValueError, LookupError, TypeError):
            return None


class WorkFolder:
    """The folder beside `out` for the parts of one preparation, whose `content` it belongs to: source and options.

    Folders of other preparations of `out` are removed. It stays if the preparation ends early with a part finished.
    Raises DataError if another process uses it.
    """

    def __init__(self, out: Path, content: object) -> None:
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:_DIGITS]
        self._out = out
        self.folder = out.parent / f".{out.name}.work-{digest}"
        self._open_files = ExitStack()

    def __enter__(self) -> Self:
        for other in self._out.parent.glob(f".{escape(self._out.name)}.work-*"):
            if other != self.folder and (lock := _locked(other)) is not None:
                shutil.rmtree(other, ignore_errors=True)
                lock.close()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be made ({error.strerror}); choose another folder, or clear the way."
            ) from error
        held = _locked(self.folder)
        if held is None:
            raise DataError(f"{self._out}: another process prepares it; wait for it, or choose another folder.")
        self._open_files.enter_context(held)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not any(self.folder.glob("[0-9]*.json")):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._open_files.close()

    def part(self, number: int) -> PartFiles:
        """The files of part `number`."""
        return PartFiles.of(self.folder, number)


def _locked(folder: Path) -> IO[bytes] | None:
    """The lock of a folder, which is free again when this process ends in any way; None if another one has it."""
    try:
        file = (folder / _LOCK).open("ab")
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
