"""What a source hands out when its payload is read, and how item rows are laid between tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import DataError
from counterpoint.plan.samples import Item
from counterpoint.plan.sizes import NO_LABEL, NO_TOKEN

Kind = Literal["image", "audio", "features"]
"""What an item is, as the index calls it."""

IMAGE: Kind = "image"
AUDIO: Kind = "audio"
FEATURES: Kind = "features"

Extent = tuple[int, ...]
"""The size of an item: (height, width) of an image in pixels, (samples,) of a clip, (rows, width) of features."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TextPayload:
    """One document: `ids` (tokens,), NO_TOKEN at item rows; `labels` (tokens,), shifted or NO_LABEL."""

    ids: Ints
    labels: Ints


@dataclass(frozen=True, slots=True)
class PatchPayload:
    """One image: `patches` (rows_in, columns) and their `grid` (rows, columns).

    Rows come in groups of merge x merge neighbours, so that a merge reads consecutive rows.
    """

    patches: Floats
    grid: tuple[int, int]

    @property
    def kind(self) -> Kind:
        """What it is the payload of."""
        return IMAGE

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.patches)

    @property
    def described(self) -> str:
        """What the rows are, in words."""
        return f"{self.rows} patches on a grid {self.grid[0]}x{self.grid[1]}"


@dataclass(frozen=True, slots=True)
class ClipPayload:
    """One clip: the `frames` (rows_in, window, mels) that each row reads, which of them are `filled` (rows_in, window),
    zeros elsewhere, and the rows' `positions` (rows_in,)."""

    frames: Floats
    filled: Bools
    positions: Ints

    @property
    def kind(self) -> Kind:
        """What it is the payload of."""
        return AUDIO

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.frames)

    @property
    def described(self) -> str:
        """What the rows are, in words."""
        return f"{self.rows} rows of frames"


@dataclass(frozen=True, slots=True)
class FeaturePayload:
    """Features of one item, computed beforehand: `values` (rows_in, width)."""

    values: Floats

    @property
    def kind(self) -> Kind:
        """What it is the payload of."""
        return FEATURES

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.values)

    @property
    def described(self) -> str:
        """What the rows are, in words."""
        return f"{self.rows} rows of features {self.values.shape[1]} wide"


Payload = PatchPayload | ClipPayload | FeaturePayload


class Placed(NamedTuple):
    """An item on the way into a module: the rows that enter, and those that leave, in a grid of `columns` (None: one
    behind the other in time)."""

    module: str
    rows_in: int
    rows: int
    columns: int | None


def lay_text(tokens: Ints, targets: Bools, positions: Sequence[int], rows: Sequence[int]) -> TextPayload:
    """Insert `rows[i]` item rows before token `positions[i]` and shift the targets into labels.

    `tokens` and `targets` are (n,), `positions` ascends. A target in the first row is no label: no row
    precedes it.
    """
    places = np.repeat(np.asarray(positions, dtype=np.int64), np.asarray(rows, dtype=np.int64))
    ids = np.insert(tokens, places, NO_TOKEN)
    is_target = np.insert(targets, places, False)
    labels = np.full(ids.shape, NO_LABEL, dtype=np.int64)
    labels[:-1] = np.where(is_target[1:], ids[1:], NO_LABEL)
    return TextPayload(ids, labels)


def lay_items(positions: Sequence[int], placed: Sequence[Placed]) -> tuple[Item, ...]:
    """Items of one document from the tokens they stand before, and what they are in their modules."""
    items: list[Item] = []
    before = 0
    for position, (module, rows_in, rows, columns) in zip(positions, placed, strict=True):
        items.append(Item(module, position + before, rows_in, rows, columns))
        before += items[-1].rows
    return tuple(items)


def check_rows(payload: Payload, kind: Kind, rows_in: int, where: str) -> None:
    """Compare what a reader emitted with what was planned; raises DataError."""
    if payload.kind != kind:
        raise DataError(
            f"{where}: the reader emitted {payload.described}, of kind {payload.kind}, but the module takes kind "
            f"{kind}; correct the source."
        )
    cells = payload.grid[0] * payload.grid[1] if isinstance(payload, PatchPayload) else rows_in
    if payload.rows != rows_in or cells != rows_in:
        raise DataError(
            f"{where}: the reader emitted {payload.described}, but the plan expects {rows_in}; prepare the dataset "
            "again."
        )
