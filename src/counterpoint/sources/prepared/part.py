"""Documents written to a file, and the files of their items copied or referred to: an index, or a part of one."""

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from counterpoint.errors import DataError
from counterpoint.kinds.modality import SIZES, Extent
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.images.spec import IMAGES
from counterpoint.sources.prepared.index import SCHEMA, WHOLE
from counterpoint.sources.prepared.stores import Location

BATCH_DOCUMENTS = 1024


class Encoded(NamedTuple):
    """An item to write: the token that it precedes, its encoded bytes and its kind.

    A video is an image with `further` pictures after the first. `names` are the names of its files. The bytes are
    copied, unless they lie at a `location` and are only referred to; in a folder, by their names. `picks` are the
    stamps of frames of a video's one file, `extent` is their size, and `whole` the number of frames of the video that
    they are a part of, 0 for all of it.
    """

    position: int
    data: bytes
    kind: str = IMAGES.name
    further: tuple[bytes, ...] = ()
    names: tuple[str, ...] = ()
    location: Location | None = None
    picks: tuple[int, ...] = ()
    extent: Extent | None = None
    whole: int = 0

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


@dataclass(slots=True)
class Counts:
    """What was written: documents by split, items by the keys of their modalities, tokens, bytes of the payload, and
    the stores (kind, path) that items refer to, in the order of their numbers from 1."""

    splits: Counter[str] = field(default_factory=Counter)
    items: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    payload_bytes: int = 0
    stores: dict[tuple[str, Path], int] = field(default_factory=dict)

    def store(self, kind: str, path: Path) -> int:
        """The number of a store."""
        return self.stores.setdefault((kind, path), len(self.stores) + 1)


class PartWriter:
    """Writes documents to `arrow` and copied files to `payload`; a picture with more than `most_pixels` is an error."""

    def __init__(self, arrow: Path, payload: Path, most_pixels: int) -> None:
        self._paths, self._most_pixels = (arrow, payload), most_pixels
        self._open_files = ExitStack()
        self._batch: list[dict[str, object]] = []
        self._copied: dict[int, int] = {}
        self.counts = Counts()

    def __enter__(self) -> Self:
        arrow, self._payload = (self._open_files.enter_context(path.open("wb")) for path in self._paths)
        self._arrow = self._open_files.enter_context(pa.ipc.new_file(arrow, SCHEMA))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_files.close()

    def add(self, record: Record) -> None:
        """Append a document; raises DataError, and writes nothing, if it is inconsistent or an item cannot be read."""
        positions = [item.position for item in record.items]
        if positions != sorted(positions) or (
            positions and not 0 <= positions[0] <= positions[-1] <= len(record.tokens)
        ):
            raise DataError(
                f"item positions {positions} do not ascend within 0 to {len(record.tokens)}; correct the record."
            )
        if len(record.loss) != len(record.tokens):
            raise DataError(f"{len(record.loss)} loss marks for {len(record.tokens)} tokens; correct the record.")
        extents = [self._extent(item) for item in record.items]
        self._copied.clear()
        self._batch.append({
            "tokens": record.tokens,
            "loss": record.loss,
            "split": record.split,
            "text": record.text,
            "items": [self._add_item(item, extent) for item, extent in zip(record.items, extents, strict=True)],
        })  # fmt: skip
        self.counts.splits[record.split] += 1
        self.counts.tokens += len(record.tokens)
        if len(self._batch) == BATCH_DOCUMENTS:
            self.flush()

    def append(self, arrow: Path, payload: Path, counts: Counts) -> None:
        """Append all that another writer has written; raises DataError if it cannot be read or written."""
        self.flush()
        numbers = [0, *(self.counts.store(*store) for store in counts.stores)]
        try:
            with pa.ipc.open_file(pa.memory_map(str(arrow))) as batches:
                for number in range(batches.num_record_batches):
                    batch = batches.get_batch(number)
                    self._arrow.write_batch(_moved(batch, self.counts.payload_bytes, numbers))
            with payload.open("rb") as file:
                while data := file.read(_COPIED_AT_ONCE):
                    self._payload.write(data)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"{arrow}: cannot be joined with the others ({error}); make room, or remove its folder, and "
                "prepare again."
            ) from error
        self.counts.splits += counts.splits
        self.counts.items += counts.items
        self.counts.tokens += counts.tokens
        self.counts.payload_bytes += counts.payload_bytes

    def flush(self) -> None:
        """Write the documents that wait for a batch to be full."""
        if self._batch:
            self._arrow.write_batch(pa.RecordBatch.from_pylist(self._batch, schema=SCHEMA))
            self._batch.clear()

    def close(self) -> None:
        """Finish the files."""
        self.flush()
        self._open_files.close()

    def _add_item(self, item: Encoded, extent: Extent) -> dict[str, object]:
        modality, location = MODALITIES[item.kind], item.location
        self.counts.items[modality.count(len(item.picks) or len(item.files))] += 1
        if location is None:
            location, store = Location("", Path(), self._copy(item)), 0
        else:
            store = self.counts.store(location.kind, location.path)
        sizes = dict.fromkeys(SIZES, 0) | dict(zip(modality.columns, extent, strict=True))
        if item.picks:
            sizes[WHOLE] = item.whole or len(item.picks)
        return {
            "kind": item.kind, "position": item.position, **sizes, "offset": location.offset,
            "lengths": [len(data) for data in item.files], "store": store, "group": location.group,
            "column": location.column, "names": list(item.names), "picks": list(item.picks),
        }  # fmt: skip

    def _copy(self, item: Encoded) -> int:
        """Copy the files of an item; returns the byte at which they begin. Parts of a video's time share its file."""
        if item.picks and id(item.data) in self._copied:
            return self._copied[id(item.data)]
        begin = self._copied[id(item.data)] = self.counts.payload_bytes
        for data in item.files:
            self._payload.write(data)
            self.counts.payload_bytes += len(data)
        return begin

    def _extent(self, item: Encoded) -> Extent:
        """The size of an item; raises DataError if its files differ in size, or if its modality allows only one."""
        if item.extent is not None:
            return item.extent
        modality, files = MODALITIES[item.kind], item.files
        if len(files) > 1 and not modality.has_lists:
            raise DataError(
                f"an item of kind {modality.name} has {len(files)} files, expected one; only images make a video."
            )
        try:
            extent, *others = [modality.extent(data, self._most_pixels) for data in files]
        except DataError as error:
            raise DataError(f"file {item.names[0]}: {error}" if item.names else str(error)) from error
        for number, other in enumerate(others, start=2):
            if other != extent:
                raise DataError(
                    f"picture {number} of the {len(files)} of a video is {show_extent(other)} pixels, but the first is "
                    f"{show_extent(extent)}; give all pictures of a video one size."
                )
        return extent


_COPIED_AT_ONCE = 16 * 2**20


def _moved(batch: pa.RecordBatch, payload_bytes: int, numbers: Sequence[int]) -> pa.RecordBatch:
    """A batch whose items have new numbers of stores, and whose payload begins at a byte."""
    lists = batch.column("items")
    items = lists.values
    columns = {name.name: items.field(place) for place, name in enumerate(items.type)}
    is_copied = pc.equal(columns["store"], 0)
    moved = pc.add(columns["offset"], payload_bytes)
    columns["offset"] = pc.if_else(is_copied, moved, columns["offset"])
    columns["store"] = pa.array(numbers, pa.int32()).take(columns["store"])
    values = pa.StructArray.from_arrays(list(columns.values()), fields=list(items.type))
    field_of = SCHEMA.field("items")
    renewed = pa.ListArray.from_arrays(lists.offsets, values, type=field_of.type)
    arrays = [renewed if name == "items" else batch.column(name) for name in SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def show_extent(extent: Extent) -> str:
    """A size in words."""
    return "x".join(map(str, extent))
