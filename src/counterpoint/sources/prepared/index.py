"""The prepared format: a folder whose index describes every document without reading its payload.

index.arrow      a row per document: tokens, loss, split, text, items (kind, position, size, and where their bytes lie)
payload.bin      encoded files that were copied: images (those of a video are one item), clips, arrays of features
stores.json      the files of the dataset in which all other items lie: paths, sizes, digests
index.json       format, version, chat template, tokenizer digest, marks, counts; sizes and digests of index.arrow and
                 payload.bin, and the digest of the stores
tokenizer.json   the tokenizer that made the tokens
chat.json        what chat_template.jinja was rendered with, where a chat template laid out the conversations
files.jsonl      only up to version 5: names of the files in payload.bin, a line per named item: offset, names
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Bools, Ints
from counterpoint.kinds.modality import Extent, extent_of
from counterpoint.modalities import MODALITIES
from counterpoint.sources.prepared.stores import FOLDER, Stores, read_stores

FORMAT, VERSION = "counterpoint-index", 6
WITHOUT_STORES = 5
"""The last version whose whole payload is in payload.bin, with the names of its files beside it."""
WITHOUT_CHAT = 4
"""The last version whose manifest does not name a chat template."""

ARROW_NAME, PAYLOAD_NAME, MANIFEST_NAME, TOKENIZER_NAME = (
    "index.arrow",
    "payload.bin",
    "index.json",
    "tokenizer.json",
)
FILES_NAME = "files.jsonl"

IDENTITY_DIGITS = 16

COUNTED = ("images", "videos", "clips", "features")
"""Keys of counts that every manifest has; the counts of later modalities are present only if they are not 0."""

DIGEST_LIMIT_BYTES = 256 * 2**20
"""An index up to this size is hashed when it is opened; for a larger one every rank would need seconds."""

DEFAULT_CACHE_BYTES = 2**30
_LOOKED_AT = 8
"""Files of a folder that are looked for when an index is opened."""

_COPIED = [
    pa.field("kind", pa.string(), nullable=False),
    pa.field("position", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("samples", pa.int64(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("lengths", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
]
WHOLE = "samples"
"""The column that holds, for pictures of a file of video, the number of frames of the whole; a clip's length else."""

ITEM = pa.struct(
    [
        *_COPIED,
        pa.field("store", pa.int32(), nullable=False),
        pa.field("group", pa.int32(), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("names", pa.list_(pa.field("item", pa.string(), nullable=False)), nullable=False),
        pa.field("picks", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
    ]
)


def _schema(item: Any) -> Any:
    return pa.schema(
        [
            pa.field("tokens", pa.list_(pa.field("item", pa.int32(), nullable=False)), nullable=False),
            pa.field("loss", pa.list_(pa.field("item", pa.bool_(), nullable=False)), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),
            pa.field("items", pa.list_(pa.field("item", item, nullable=False)), nullable=False),
        ]
    )


SCHEMA, SCHEMA_WITHOUT_STORES = _schema(ITEM), _schema(pa.struct(_COPIED))


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """One item, whose rows precede token `position`.

    Its encoded files (the pictures of a video, all of one size, or a single file) have `lengths` bytes each. They begin
    at byte `offset` of the payload, or lie in a store of a number from 1: from byte `offset` of a file; in the row
    `offset` of the row group `group` of a parquet file, at `column`; or each in a file of its own, below a folder, by
    `names`. Otherwise `names` only serve messages. `picks` are the stamps of the frames that are seen of a video's one
    file, and `whole` is the number of frames of the video that they are a part of.
    """

    kind: str
    position: int
    extent: Extent
    offset: int
    lengths: tuple[int, ...]
    store: int = 0
    group: int = -1
    column: str = ""
    names: tuple[str, ...] = ()
    picks: tuple[int, ...] = ()
    whole: int = 0

    @property
    def pictures(self) -> int:
        """How many files it has for a module: frames of a video are files of their own."""
        return len(self.picks or self.lengths)

    @property
    def seen_extent(self) -> Extent:
        """Its size, with the number of pictures of its whole video if there are several."""
        return extent_of(self.extent, self.whole or self.pictures)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "ItemEntry":
        """The entry of a row of the item columns."""
        kind = row["kind"]
        extent = tuple(row[column] for column in MODALITIES[kind].columns)
        copied = (kind, row["position"], extent, row["offset"], tuple(row["lengths"]))
        if "store" not in row:
            return cls(*copied)
        place = (row["store"], row["group"], row["column"])
        return cls(*copied, *place, tuple(row["names"]), tuple(row["picks"]), row[WHOLE] if row["picks"] else 0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of index.json; two preparations are the same dataset if and only if these are equal.

    `counts` are of items, by the keys of their modalities: those of COUNTED, and others that are not 0.
    """

    format: str
    version: int
    tokenizer_sha256: str
    marks: dict[str, str]
    documents: int
    tokens: int
    counts: dict[str, int]
    splits: dict[str, int]
    arrow_bytes: int
    arrow_sha256: str
    payload_bytes: int
    payload_sha256: str
    chat: str | None = None
    stores_sha256: str | None = None
    chat_sha256: str | None = None
    """Digest of what the chat template was rendered with, where `chat` is one."""

    def write(self, folder: Path) -> None:
        """Write index.json into a folder."""
        (folder / MANIFEST_NAME).write_text(json.dumps(self.values(), indent=2, sort_keys=True) + "\n")

    def values(self) -> dict[str, Any]:
        """The content of index.json; `identity` is its digest, so an index of an older version keeps its identity."""
        values = asdict(self)
        values |= values.pop("counts")
        for key in _added_since(self.version):
            del values[key]
        if self.chat_sha256 is None:
            del values["chat_sha256"]
        return values

    @property
    def identity(self) -> str:
        """A digest that identifies the dataset independently of its folder."""
        digest = hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode()).hexdigest()
        return f"{self.documents} documents, sha256 {digest[:IDENTITY_DIGITS]}"

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read index.json; raises DataError if it is missing, malformed or of another version."""
        path = folder / MANIFEST_NAME
        try:
            values = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise DataError(
                f"dataset {folder}: {MANIFEST_NAME} is missing; run `counterpoint prepare SOURCE {folder}` "
                "or correct the path."
            ) from error
        except (OSError, ValueError) as error:
            raise DataError(f"dataset {folder}: {MANIFEST_NAME} cannot be read ({error}); prepare it again.") from error
        found = (values.get("format"), values.get("version")) if isinstance(values, dict) else (None, None)
        if found not in [(FORMAT, version) for version in (VERSION, WITHOUT_STORES, WITHOUT_CHAT)]:
            raise DataError(
                f"dataset {folder}: {MANIFEST_NAME} says format {found[0]!r}, version {found[1]!r}, expected "
                f"{FORMAT!r}, version {VERSION}; prepare it again with this version."
            )
        counted = [key for modality in MODALITIES.values() for key in modality.counts]
        expected = {*cls.__slots__, *COUNTED} - {"counts", *_added_since(values["version"])}
        odd = (values.keys() ^ expected) - (set(counted) - expected) - {"chat_sha256"}
        if odd:
            keys = ", ".join(sorted(odd))
            raise DataError(f"dataset {folder}: {MANIFEST_NAME} lacks or adds the keys {keys}; prepare it again.")
        return cls(counts={key: values.pop(key) for key in counted if key in values}, **values)


def _added_since(version: int) -> tuple[str, ...]:
    """Keys of a manifest that older versions lack."""
    return (*(("chat",) if version <= WITHOUT_CHAT else ()), *(("stores_sha256",) if version < VERSION else ()))


class Index:
    """A prepared folder, read lazily: rows through a memory map, items one by one.

    `stores` read the items and count what they read; they keep at most `cache_bytes` of parquet files in memory. Raises
    DataError if a file is missing, of another size than the manifest says, or corrupt.
    """

    def __init__(self, folder: Path, cache_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self._check_size(ARROW_NAME, self.manifest.arrow_bytes)
        self._check_size(PAYLOAD_NAME, self.manifest.payload_bytes)
        if self.manifest.arrow_bytes <= DIGEST_LIMIT_BYTES:
            self._check_digest(ARROW_NAME, self.manifest.arrow_sha256)
        self.table = self._open_table()
        expected = self.manifest.stores_sha256
        stores = () if expected is None else read_stores(folder, expected)
        self.stores = Stores(folder, folder / PAYLOAD_NAME, stores, cache_bytes)
        for number, store in enumerate(stores, start=1):
            if store.kind == FOLDER:
                self.stores.check_folder(number, self._some_items(number))

    def rows_of(self, split: str) -> Ints:
        """Row numbers of a split, ascending; raises DataError if it has none."""
        if split not in self.manifest.splits:
            known = ", ".join(sorted(self.manifest.splits))
            raise DataError(f"dataset {self.folder}: no split '{split}'; expected one of: {known}.")
        is_split = pc.equal(self.table.column("split"), split)
        return np.flatnonzero(is_split.to_numpy()).astype(np.int64)

    @property
    def largest_id(self) -> int:
        """The largest token id of any document, -1 without tokens."""
        largest = [pc.max(chunk.flatten()).as_py() for chunk in self.table.column("tokens").chunks]
        return max((int(value) for value in largest if value is not None), default=-1)

    def tokens(self, row: int) -> tuple[Ints, Bools]:
        """The token ids and the loss mask of a document, (tokens,) each."""
        tokens = self.table.column("tokens")[row].values.to_numpy(zero_copy_only=False).astype(np.int64)
        loss = self.table.column("loss")[row].values.to_numpy(zero_copy_only=False).astype(np.bool_)
        return tokens, loss

    def text(self, row: int) -> str:
        """The text of a document, for display."""
        return str(self.table.column("text")[row].as_py())

    def items(self, row: int) -> tuple[ItemEntry, ...]:
        """The items of a document, by position."""
        return tuple(ItemEntry.of(item) for item in self.table.column("items")[row].as_py())

    def item_files(self, entry: ItemEntry, which: slice) -> list[bytes]:
        """A slice of the encoded files of an item, or of the frames of its video, as PPM files.

        Raises DataError if they cannot be read completely.
        """
        return self.stores.read(entry, which)

    def file_names(self, entry: ItemEntry, which: slice = slice(None)) -> str:
        """The original names of a slice of an item's files, empty if unknown."""
        if self.manifest.version > WITHOUT_STORES:
            numbers = [0] if entry.picks else range(*which.indices(len(entry.lengths)))
            names = [self.stores.called(entry, number) for number in numbers]
            return ", ".join(name for name in names if name)
        try:
            with (self.folder / FILES_NAME).open("rb") as lines:
                return ", ".join(_names_at(lines, entry.offset)[which])
        except (OSError, ValueError):
            # Names only make messages more readable; the index is usable without them.
            return ""

    def _some_items(self, store: int) -> list[ItemEntry]:
        """A few items that lie in a store, spread over all."""
        chunks = [chunk.flatten() for chunk in self.table.column("items").chunks]
        found = [np.flatnonzero(items.field("store").to_numpy() == store) for items in chunks]
        places = [(items, place) for items, own in zip(chunks, found, strict=True) for place in own[:1].tolist()]
        some = places[:: max(1, len(places) // _LOOKED_AT)][:_LOOKED_AT]
        return [ItemEntry.of(items[place].as_py()) for items, place in some]

    def _open_table(self) -> Any:
        path = self.folder / ARROW_NAME
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"dataset {self.folder}: {ARROW_NAME} is corrupt ({error}); prepare it again.") from error
        schema = SCHEMA if self.manifest.version > WITHOUT_STORES else SCHEMA_WITHOUT_STORES
        if not table.schema.equals(schema) or table.num_rows != self.manifest.documents:
            raise DataError(
                f"dataset {self.folder}: {ARROW_NAME} has other columns than this version's, or "
                f"{table.num_rows} documents instead of {self.manifest.documents}; prepare it again."
            )
        return table

    def _check_size(self, name: str, expected: int) -> None:
        path = self.folder / name
        found = path.stat().st_size if path.is_file() else None
        if found != expected:
            state = "is missing" if found is None else f"has {found} bytes"
            raise DataError(f"dataset {self.folder}: {name} {state}, expected {expected} bytes; prepare it again.")

    def _check_digest(self, name: str, expected: str) -> None:
        try:
            found = file_digest(self.folder / name)
        except OSError as error:
            raise DataError(
                f"dataset {self.folder}: {name} cannot be read ({error.strerror}); correct its permissions."
            ) from error
        if found != expected:
            raise DataError(
                f"dataset {self.folder}: {name} is corrupt (sha256 {found[:12]}, expected {expected[:12]}); "
                "prepare it again."
            )


def file_digest(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names_at(lines: BinaryIO, offset: int) -> list[str]:
    """The names in the line with this offset, empty without one; offsets ascend, so that a binary search finds it."""
    low, high = 0, lines.seek(0, os.SEEK_END)
    while low < high:
        middle = (low + high) // 2
        if lines.seek(max(0, middle - 1)):
            lines.readline()
        line = lines.readline()
        if line and json.loads(line)[0] < offset:
            low = lines.tell()
        else:
            high = middle
    lines.seek(low)
    found, *names = json.loads(lines.readline() or "[null]")
    return names if found == offset else []
