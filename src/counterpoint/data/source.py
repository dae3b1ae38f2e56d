"""What every data source offers, and how a bad payload is kept from stopping a run (design D5)."""

from typing import Protocol

import numpy as np

from counterpoint.data.images import Settings, grid_coordinates
from counterpoint.data.payload import PatchPayload, TextPayload, check_rows
from counterpoint.errors import DataError
from counterpoint.plan.samples import Document, Item


class Source(Protocol):
    """Documents by index: metadata without reading a payload, then the payloads one by one."""

    @property
    def settings(self) -> Settings:
        """How its images become rows, by the module that they enter."""

    @property
    def excluded(self) -> int:
        """How many samples were left out because their items do not fit."""

    def __len__(self) -> int:
        """The number of documents."""

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document; `document(index).loss_tokens` of the labels are targets."""

    def grid(self, index: int, which: int) -> tuple[int, int]:
        """The patch grid of item `which` of a document, from metadata alone."""

    def item(self, index: int, which: int) -> PatchPayload:
        """The rows of item `which` of a document; raises DataError if its bytes are bad."""


def load_item_or_neutral(
    source: Source, index: int, which: int, expected: Item
) -> tuple[PatchPayload, DataError | None]:
    """Read an item, or zeros of the planned size and the reason if it is unreadable or not of that size."""
    where = f"document {index}, item {which}"
    try:
        payload = source.item(index, which)
        check_rows(payload, expected.rows_in, where)
    except DataError as error:
        return _neutral(source, index, which, expected), DataError(f"{where}: {error}")
    return payload, None


def _neutral(source: Source, index: int, which: int, expected: Item) -> PatchPayload:
    settings = source.settings[expected.module]
    rows, columns = source.grid(index, which)
    patches = np.zeros((rows * columns, settings.columns), dtype=np.float32)
    return PatchPayload(patches, grid_coordinates(rows, columns, settings.merge), (rows, columns))
