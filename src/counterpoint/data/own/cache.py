"""Sizes and tokens of a dataset on disk: computed once, by one process, and read by all.

tokens.i4      the tokens of all samples, int32, one after another
table.npz      the other arrays: lengths, spans of targets, items, and the bytes of each of their files
sizes.json     format, version, kinds of items, and the sizes of the two files; written last
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, final

import numpy as np

from counterpoint.data.own.rows import LaidRow
from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Ints
from counterpoint.kinds.modality import SIZES
from counterpoint.modalities import MODALITIES
from counterpoint.sources.prepared.item_table import ItemTable
from counterpoint.sources.registered.samples import SampleSize, SizeTable

FORMAT, VERSION = "counterpoint-sizes", 1
_TOKENS, _TABLE, _HEAD = "tokens.i4", "table.npz", "sizes.json"


@final
@dataclass(frozen=True)
class SizesCache:
    """The tokens and sizes of a dataset in a folder, opened lazily; can be pickled."""

    folder: Path

    @property
    def is_there(self) -> bool:
        """Whether the folder holds whole files of this version."""
        try:
            head = json.loads((self.folder / _HEAD).read_text())
            return bool(head == _head(self.folder))
        except (OSError, ValueError):
            return False

    def write(self, rows: Iterator[LaidRow]) -> None:
        """Write the sizes of all rows, unless another process does or did so; raises DataError as the rows do."""
        with _locked(self.folder):
            if self.is_there:
                return
            partial = self.folder.with_name(f".{self.folder.name}.partial-{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            try:
                _write(partial, rows)
                shutil.rmtree(self.folder, ignore_errors=True)
                partial.rename(self.folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)

    @cached_property
    def table(self) -> SizeTable:
        """The sizes of all samples."""
        arrays = self._arrays
        documents, codes = len(arrays["lengths"]), arrays["kinds"]
        kinds = {kind: codes == number for number, kind in enumerate(MODALITIES)}
        items = ItemTable(documents, arrays["owners"], arrays["positions"], kinds, arrays["sizes"])
        return SizeTable(arrays["lengths"], arrays["spans"], items, int(arrays["largest_id"]))

    def tokens(self, index: int) -> Ints:
        """The tokens of a sample, (tokens,)."""
        first, stop = self._starts[index : index + 2].tolist()
        found: Ints = self._tokens[first:stop].astype(np.int64)
        return found

    def file_bytes(self, index: int) -> list[list[int]]:
        """The bytes of each file of each item of a sample."""
        first, stop = np.searchsorted(self._arrays["owners"], [index, index + 1]).tolist()
        counts = self._arrays["sizes"][first:stop, -1].tolist()
        begin = int(self._file_starts[first])
        bounds = list(accumulate(counts, initial=begin))
        return [self._arrays["bytes"][a:b].tolist() for a, b in pairwise(bounds)]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    @cached_property
    def _arrays(self) -> dict[str, Ints]:
        try:
            with np.load(self.folder / _TABLE, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{self.folder}: {_TABLE} cannot be read ({error}); remove the folder.") from error

    @cached_property
    def _tokens(self) -> Any:
        path = self.folder / _TOKENS
        return np.memmap(path, dtype="<i4", mode="r") if path.stat().st_size else np.zeros(0, dtype="<i4")

    @cached_property
    def _starts(self) -> Ints:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self._arrays["lengths"])])

    @cached_property
    def _file_starts(self) -> Ints:
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self._arrays["sizes"][:, -1])])


def _write(folder: Path, rows: Iterator[LaidRow]) -> None:
    sizes: list[SampleSize] = []
    lengths_of_files: list[int] = []
    largest = -1
    with (folder / _TOKENS).open("wb") as file:
        for row in rows:
            sizes.append(row.size)
            lengths_of_files += [len(data) for item in row.items for data in item.files]
            tokens = np.array(row.tokens, dtype="<i4")
            largest = max(largest, int(tokens.max(initial=-1)))
            file.write(tokens.tobytes())
    table = SizeTable.of(sizes)
    codes = np.zeros(len(table.items.owners), dtype=np.int64)
    for number, kind in enumerate(MODALITIES):
        codes[table.items.kinds[kind]] = number
    np.savez(
        folder / _TABLE,
        lengths=table.lengths,
        spans=table.spans,
        owners=table.items.owners,
        positions=table.items.positions,
        kinds=codes,
        sizes=table.items.sizes,
        bytes=np.array(lengths_of_files, dtype=np.int64),
        largest_id=np.array(largest, dtype=np.int64),
    )
    (folder / _HEAD).write_text(json.dumps(_head(folder)) + "\n")


def _head(folder: Path) -> dict[str, Any]:
    sizes = {name: (folder / name).stat().st_size for name in (_TOKENS, _TABLE)}
    return {"format": FORMAT, "version": VERSION, "kinds": list(MODALITIES), "columns": list(SIZES), "bytes": sizes}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; it is released whatever ends the process."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f".{folder.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error}); name another folder as cache.") from error
