"""Targets of the items of an index: precomputed arrays beside it, which losses compare rows with.

targets/NAME.npy        the targets of all items, concatenated: (targets, width) of any float dtype
targets/NAME.rows.npy   number of targets of each item, int64 (items,), in the index's order; 0 for items without
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats, Ints
from counterpoint.sources.prepared.index import Index
from counterpoint.sources.prepared.item_table import list_lengths

FOLDER = "targets"


def write_targets(folder: Path, name: str, targets: Iterable[Floats | None]) -> None:
    """Write the targets of all items of the index in `folder`, (n, width) each, None for an item without any.

    Existing targets of this name are replaced.
    """
    found = [np.empty((0, 0), dtype=np.float32) if one is None else one for one in targets]
    given = [one for one in found if len(one)]
    (folder / FOLDER).mkdir(exist_ok=True)
    np.save(folder / FOLDER / f"{name}.npy", np.concatenate(given) if given else np.empty((0, 1), dtype=np.float32))
    np.save(folder / FOLDER / f"{name}.rows.npy", np.array([len(one) for one in found], dtype=np.int64))


@final
class Targets:
    """The targets of one name; raises DataError if files are missing, damaged, or do not match the index's items."""

    def __init__(self, index: Index, name: str) -> None:
        self._where = f"dataset {index.folder}: {FOLDER}/{name}"
        self._values: Floats = self._load(index.folder / FOLDER / f"{name}.npy")
        rows: Ints = self._load(index.folder / FOLDER / f"{name}.rows.npy")
        items = list_lengths(index, "items")
        if self._values.ndim != 2 or self._values.dtype.kind != "f" or rows.shape != (items.sum(),):
            raise DataError(
                f"{self._where}.npy is {self._values.dtype} {self._values.shape} of {rows.shape} items, expected "
                f"floats (rows, width) of the index's {items.sum()} items; write them again."
            )
        if rows.sum() != len(self._values):
            raise DataError(
                f"{self._where}.npy has {len(self._values)} rows, but {name}.rows.npy says {rows.sum()}; write both "
                "again."
            )
        self._first_items = np.cumsum(items) - items
        self._first_rows, self._rows = np.cumsum(rows) - rows, rows

    def read(self, row: int, which: int, first: int, count: int, width: int) -> Floats:
        """Targets `first` to `first + count` of item `which` of an index row, float32 (count, width).

        Raises DataError if the item has fewer targets, or if they have another width.
        """
        item = self._first_items[row] + which
        found = self._values.shape[1]
        if first + count > self._rows[item] or found != width:
            raise DataError(
                f"{self._where}.npy has {self._rows[item]} targets {found} wide for item {which} of row {row}, "
                f"expected {first + count} that are {width} wide, as the rows that leave the module; write them again."
            )
        at = self._first_rows[item] + first
        return np.asarray(self._values[at : at + count], dtype=np.float32)

    def _load(self, path: Path) -> Any:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError(
                f"{self._where}: {path.name} is missing; write it, or take the loss that compares rows with it out."
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{self._where}: {path.name} cannot be read ({error}); write it again.") from error
