"""What a source hands out when its payload is read, and how item rows are laid between tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import DataError
from counterpoint.plan.samples import Item

ITEM_ROW = -1
"""The id at a row that an item's features fill."""

IGNORED = -100
"""The label of a row without a loss."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TextPayload:
    """One document: `ids` (tokens,), ITEM_ROW at item rows; `labels` (tokens,), shifted or IGNORED."""

    ids: Ints
    labels: Ints


@dataclass(frozen=True, slots=True)
class PatchPayload:
    """One image: `patches` (rows_in, columns), their (row, column) as `coordinates` (rows_in, 2), the `grid`.

    Rows come in groups of merge x merge neighbours, so that a merge reads consecutive rows.
    """

    patches: Floats
    coordinates: Ints
    grid: tuple[int, int]


class Placed(NamedTuple):
    """An image on the way into a module: its patch grid, of which `merge` x `merge` cells leave as one row."""

    module: str
    merge: int
    grid: tuple[int, int]

    @property
    def rows(self) -> int:
        """Rows that leave the module."""
        return self.grid[0] * self.grid[1] // self.merge**2


def lay_text(tokens: Ints, targets: Bools, positions: Sequence[int], rows: Sequence[int]) -> TextPayload:
    """Insert `rows[i]` item rows before token `positions[i]` and shift the targets into labels.

    `tokens` and `targets` are (n,), `positions` ascends. A target in the first row is no label: no row
    precedes it.
    """
    places = np.repeat(np.asarray(positions, dtype=np.int64), np.asarray(rows, dtype=np.int64))
    ids = np.insert(tokens, places, ITEM_ROW)
    is_target = np.insert(targets, places, False)
    labels = np.full(ids.shape, IGNORED, dtype=np.int64)
    labels[:-1] = np.where(is_target[1:], ids[1:], IGNORED)
    return TextPayload(ids, labels)


def lay_items(positions: Sequence[int], placed: Sequence[Placed]) -> tuple[Item, ...]:
    """Items of one document from the tokens they stand before, their modules and their patch grids."""
    items: list[Item] = []
    before = 0
    for position, (module, merge, (rows, columns)) in zip(positions, placed, strict=True):
        rows_in = rows * columns
        items.append(Item(module, position + before, rows_in, rows_in // merge**2, columns // merge))
        before += items[-1].rows
    return tuple(items)


def check_rows(payload: PatchPayload, rows_in: int, where: str) -> None:
    """Compare the rows that a reader emitted with the planned ones; raises DataError."""
    found = payload.patches.shape[0]
    if found != rows_in or payload.grid[0] * payload.grid[1] != rows_in:
        raise DataError(
            f"{where}: the reader emitted {found} patches on a grid {payload.grid[0]}x{payload.grid[1]}, but "
            f"the plan expects {rows_in}; prepare the dataset again."
        )
