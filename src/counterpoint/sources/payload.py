"""The rows of a document: item rows are inserted between its tokens, and compared with the planned number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Bools, Ints
from counterpoint.kinds.modality import Payload, Placed
from counterpoint.plan.samples import NO_LABEL, NO_TOKEN, Item


@dataclass(frozen=True, slots=True)
class TextPayload:
    """One document with its item rows: `ids` (rows,), NO_TOKEN at item rows; `labels` (rows,), already shifted."""

    ids: Ints
    labels: Ints


def lay_text(tokens: Ints, targets: Bools, positions: Sequence[int], rows: Sequence[int]) -> TextPayload:
    """Insert `rows[i]` item rows before token `positions[i]` and shift the targets into labels.

    `tokens` and `targets` are (n,), `positions` ascends. A target in the first row gets no label, since no row
    precedes it.
    """
    places = np.repeat(np.asarray(positions, dtype=np.int64), np.asarray(rows, dtype=np.int64))
    ids = np.insert(tokens, places, NO_TOKEN)
    is_target = np.insert(targets, places, False)
    labels = np.full(ids.shape, NO_LABEL, dtype=np.int64)
    labels[:-1] = np.where(is_target[1:], ids[1:], NO_LABEL)
    return TextPayload(ids, labels)


def lay_items(positions: Sequence[int], placed: Sequence[Placed]) -> tuple[Item, ...]:
    """The items of a document: `positions[i]` is the token that item i precedes, `placed[i]` its rows in its module."""
    items: list[Item] = []
    before = 0
    for position, (module, rows_in, rows, columns) in zip(positions, placed, strict=True):
        items.append(Item(module, position + before, rows_in, rows, columns))
        before += items[-1].rows
    return tuple(items)


def check_rows(payload: Payload, kind: str, rows_in: int, where: str) -> None:
    """Raise DataError unless an item that was read has the planned kind and number of rows."""
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
