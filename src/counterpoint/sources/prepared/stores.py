"""Stores, the files of a dataset that an index refers to: they are checked and read here, and what is read is counted.

stores.json lists them with their paths, which may be edited when the data has moved; the digest in the manifest is of
everything else, so that a dataset stays the same wherever it lies.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from counterpoint.errors import DataError
from counterpoint.modalities.file_part import open_part
from counterpoint.modalities.images.spec import LARGEST_LIMIT
from counterpoint.modalities.images.video_file import VideoReader
from counterpoint.sources.prepared.row_groups import RowGroups

if TYPE_CHECKING:
    from counterpoint.sources.prepared.index import ItemEntry

STORES_NAME = "stores.json"
FOLDER, FILE, PARQUET = "folder", "file", "parquet"
"""Kinds of stores: files below a folder, named by the items; ranges of bytes of a file; cells of a parquet file."""

EDGE_BYTES = 64 * 2**10
"""Bytes at either end of a file whose digest, with its size, says whether it is the same file."""
MOST_DIGESTED = 256
"""Stores whose digest is verified when an index is opened; of further ones only the size is."""


class Location(NamedTuple):
    """Where the files of an item lie: in a store of a `kind` at `path`, from byte `offset` on.

    In a parquet file `offset` is the row inside of the row group `group`, and `column` the cell.
    """

    kind: str
    path: Path
    offset: int = 0
    group: int = -1
    column: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """A store of an index: its `path` as written, its size in bytes and a digest of its ends (none for a folder).

    A relative path begins at the index. If nothing is there, because the index moved and its data stayed, the store is
    where it was when it was `prepared`.
    """

    kind: str
    path: str
    bytes: int
    sha256: str
    prepared: str = ""

    def found_from(self, folder: Path) -> Path:
        """Where it is, for an index in a folder."""
        path, prepared = Path(os.path.normpath(folder / self.path)), Path(self.prepared or folder / self.path)
        return path if path.exists() or not prepared.exists() else prepared

    @classmethod
    def of(cls, kind: str, path: Path, out: Path) -> "Store":
        """The store of an index at `out`; its path is relative if it lies below the folder that `out` is in."""
        real, beside = Path(os.path.realpath(path)), Path(os.path.realpath(out.parent))
        is_near = real.is_relative_to(beside)
        written = os.path.relpath(real, beside / out.name) if is_near else str(real)
        prepared = str(real) if is_near else ""
        if kind == FOLDER:
            return cls(kind, written, 0, "", prepared)
        try:
            return cls(kind, written, real.stat().st_size, ends_digest(real), prepared)
        except OSError as error:
            raise DataError(f"file {path} cannot be read ({error.strerror}); correct its permissions.") from error


def ends_digest(path: Path) -> str:
    """The sha256 of the first and the last EDGE_BYTES of a file; raises OSError."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(EDGE_BYTES))
        file.seek(max(0, file.seek(0, os.SEEK_END) - EDGE_BYTES))
        digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()


def stores_digest(stores: Sequence[Store]) -> str:
    """The sha256 of all that identifies stores, without their paths."""
    return hashlib.sha256(json.dumps([[one.kind, one.bytes, one.sha256] for one in stores]).encode()).hexdigest()


def write_stores(folder: Path, stores: Sequence[Store]) -> None:
    """Write stores.json into a folder."""
    (folder / STORES_NAME).write_text(json.dumps([asdict(one) for one in stores], indent=1) + "\n")


def read_stores(folder: Path, expected: str) -> tuple[Store, ...]:
    """Read stores.json; raises DataError if it is missing, malformed, or not of the digest `expected`."""
    try:
        values = json.loads((folder / STORES_NAME).read_text())
        stores = tuple(Store(**each) for each in values)
        is_sound = all(
            isinstance(one.path, str) and isinstance(one.prepared, str) and one.kind in (FOLDER, FILE, PARQUET)
            for one in stores
        )
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"dataset {folder}: {STORES_NAME} cannot be read ({error}); prepare it again.") from error
    if not is_sound or stores_digest(stores) != expected:
        raise DataError(
            f"dataset {folder}: {STORES_NAME} lists other files than the index was made of; correct the paths in it "
            "alone, or prepare the dataset again."
        )
    return stores


class Stores:
    """The payload of an index and its stores, numbered from 1; they may be read from several threads.

    `bytes_read` counts the bytes that were read from files, `files_read` the encoded files. At most `cache_bytes` of
    row groups are kept. Raises DataError if a store is missing or has changed.
    """

    def __init__(self, folder: Path, payload: Path, stores: Sequence[Store], cache_bytes: int) -> None:
        self._folder, self._payload, self._stores = folder, payload, stores
        self._paths = [one.found_from(folder) for one in stores]
        self._groups = RowGroups(cache_bytes, self._count)
        self._videos = VideoReader(LARGEST_LIMIT)
        self._lock = Lock()
        self.bytes_read = self.files_read = 0
        for number, (store, path) in enumerate(zip(stores, self._paths, strict=True)):
            self._check(store, path, is_digested=number < MOST_DIGESTED)

    @property
    def listed(self) -> tuple[tuple[Store, Path], ...]:
        """All stores but the payload, in the order of their numbers, each with its path."""
        return tuple(zip(self._stores, self._paths, strict=True))

    def check_folder(self, number: int, entries: Sequence["ItemEntry"]) -> None:
        """Settle where a folder is by some of its items; raises DataError if none is in it: it is another one, or
        empty."""
        names = [name for entry in entries for name in entry.names[:1]]
        store, folder = self._stores[number - 1], self._paths[number - 1]
        for place in (folder, Path(store.prepared or folder)):
            if not names or any((place / name).exists() for name in names):
                self._paths[number - 1] = place
                return
        raise self._missing(folder, f"which holds none of {', '.join(names[:2])}, ...")

    def read(self, entry: "ItemEntry", which: slice) -> list[bytes]:
        """A slice of the encoded files of an item, or of the frames of its video.

        Raises DataError naming a file that is missing or has changed.
        """
        if entry.picks:
            return self._frames(entry, which)
        numbers = range(*which.indices(len(entry.lengths)))
        offsets = list(accumulate(entry.lengths, initial=entry.offset))
        found = [self._file(entry, number, offsets[number]) for number in numbers]
        with self._lock:
            self.files_read += len(found)
        return found

    def _frames(self, entry: "ItemEntry", which: slice) -> list[bytes]:
        """Frames of a video as PPM files; of its file only what they need is read."""
        place = (entry.store, entry.offset, entry.group, entry.column, entry.names)
        try:
            frames = self._videos.read(place, lambda: self._opened(entry), entry.picks[which])
        except DataError as error:
            raise DataError(f"file {self.called(entry, 0)}: {error}") from error
        with self._lock:
            self.files_read += len(frames)
        return frames

    def _opened(self, entry: "ItemEntry") -> bytes | BinaryIO:
        """The one file of an item, opened where it lies if that is possible."""
        (length,) = entry.lengths
        is_known = 0 <= entry.store <= len(self._stores)
        kind = self._stores[entry.store - 1].kind if entry.store and is_known else FILE
        if kind == PARQUET or not is_known:
            return self._file(entry, 0, entry.offset)
        path = self._payload if entry.store == 0 else self._paths[entry.store - 1]
        if kind == FOLDER:
            path, offset = self._named(path, entry.names[0] if entry.names else ""), 0
            size = path.stat().st_size if path.is_file() else None
            if size not in (None, length):
                raise _changed(path, f"{length} bytes", f"{size}")
        else:
            offset = entry.offset
        return open_part(path, offset, length, self._count)

    def called(self, entry: "ItemEntry", number: int) -> str:
        """The name of a file of an item in messages; empty if it has none."""
        name = entry.names[number] if number < len(entry.names) else ""
        if not 0 < entry.store <= len(self._stores):
            return name
        path = self._paths[entry.store - 1]
        if self._stores[entry.store - 1].kind == FOLDER:
            return str(path / name)
        return f"{name or f'byte {entry.offset}'} in {path}"

    def _file(self, entry: "ItemEntry", number: int, offset: int) -> bytes:
        length = entry.lengths[number]
        if entry.store == 0:
            return self._range(self._payload, offset, length)
        if not 0 < entry.store <= len(self._stores):
            raise DataError(f"dataset {self._folder}: an item lies in store {entry.store} of {len(self._stores)}.")
        store, path = self._stores[entry.store - 1], self._paths[entry.store - 1]
        if store.kind == FOLDER:
            return self._whole(path, entry.names[number] if number < len(entry.names) else "", length)
        if store.kind == FILE:
            return self._range(path, offset, length)
        data = self._groups.cell(path, entry.group, entry.column, entry.offset)
        if len(data) != length:
            raise _changed(path, f"a cell of {length} bytes", f"one of {len(data)}")
        return data

    def _named(self, folder: Path, name: str) -> Path:
        if not name or ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise DataError(f"dataset {self._folder}: an item has the file name {name!r}, which leads out of {folder}.")
        return folder / name

    def _whole(self, folder: Path, name: str, length: int) -> bytes:
        path = self._named(folder, name)
        try:
            with path.open("rb") as file:
                data = file.read(length + 1)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        self._count(len(data))
        if len(data) != length:
            raise _changed(path, f"{length} bytes", "more" if len(data) > length else f"{len(data)}")
        return data

    def _range(self, path: Path, offset: int, length: int) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
        except (OSError, ValueError, OverflowError) as error:
            raise _unreadable(path, error) from error
        self._count(len(data))
        if len(data) != length:
            raise DataError(
                f"dataset {self._folder}: {path.name} ends inside bytes {offset} to {offset + length}; prepare it "
                "again."
            )
        return data

    def _count(self, count: int) -> None:
        with self._lock:
            self.bytes_read += count

    def _missing(self, path: Path, how: str) -> DataError:
        return DataError(
            f"dataset {self._folder}: its payload lies in {path}, {how}; restore it, correct its path in "
            f"{STORES_NAME}, or prepare the dataset again, with --copy if it shall not need these files."
        )

    def _check(self, store: Store, path: Path, *, is_digested: bool) -> None:
        is_there = path.is_dir() if store.kind == FOLDER else path.is_file()
        if not is_there:
            raise self._missing(path, "which is missing")
        if store.kind == FOLDER:
            return
        size = path.stat().st_size
        if size != store.bytes:
            raise _changed(path, f"{store.bytes} bytes", f"{size}")
        try:
            if is_digested and ends_digest(path) != store.sha256:
                raise _changed(path, "the content that was indexed", "another one of the same size")
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) else error
    return DataError(f"file {path} cannot be read ({reason}); restore it, or prepare the dataset again.")


def _changed(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"file {path} has changed since it was prepared: expected {expected}, found {found}; restore it, or prepare "
        "the dataset again."
    )
