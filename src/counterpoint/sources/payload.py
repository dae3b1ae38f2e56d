"""A document's rows: how item rows are laid between tokens, and whether an item has those that were planned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Bools, Ints
from counterpoint.kinds.modality import Payload, Placed
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Item


@dataclass(frozen=True, slots=True)
class TextPayload:
    """One document: `ids` (tokens,), NO_TOKEN at item rows; `labels` (tokens,), shifted or NO_LABEL."""

    ids: Ints
    labels: Ints


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


def check_rows(payload: Payload, kind: str, rows_in: int, where: str) -> None:
    """Compare what a reader emitted with what was planned; raises DataError."""
    if payload.kind != kind:
        raise DataError(
            f"{where}: the reader emitted {payload.described}, of kind {payload.kind}, but the module takes kind "
            f"{kind}; correct the source."
        )
    if not payload.rows == payload.cells == rows_in:
        raise DataError(
            f"{where}: the reader emitted {payload.described}, but the plan expects {rows_in}; prepare the dataset "
            "again."
        )
