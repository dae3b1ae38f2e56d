"""What every data source offers, and how a bad payload is kept from stopping a run."""

from typing import Protocol

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Extent, Intakes, Payload
from counterpoint.modalities.content import rows_of
from counterpoint.plan.samples import Document, Item
from counterpoint.sources.census import Census
from counterpoint.sources.payload import TextPayload, check_rows
from counterpoint.sources.prepared.index import Index


class Source(Protocol):
    """Documents by index: metadata without reading a payload, then the payloads one by one."""

    @property
    def index(self) -> Index | None:
        """What its documents were prepared as, with texts for people, if they were."""

    @property
    def intakes(self) -> Intakes:
        """How its items become rows, by the module that they enter."""

    @property
    def census(self) -> Census:
        """What becomes of its documents: of all, or of some evenly spread ones where each is drawn."""

    def __len__(self) -> int:
        """The number of documents."""

    def where(self, index: int) -> str:
        """A document for people: its number, its dataset, and the row and files of it there if it has any."""

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document; `document(index).loss_tokens` of the labels are targets."""

    def extent(self, index: int, which: int) -> Extent:
        """The size of item `which` of a document, from metadata alone."""

    def item(self, index: int, which: int) -> Payload:
        """The rows of item `which` of a document; raises DataError if its bytes are bad."""


def load_item_or_neutral(source: Source, index: int, which: int, expected: Item) -> tuple[Payload, DataError | None]:
    """Read an item, or what stands for none of the planned kind and size, and the reason if it is unreadable or not of
    them."""
    where, intake = f"document {index}, item {which}", source.intakes[expected.module]
    try:
        payload = source.item(index, which)
        check_rows(payload, intake.kind, expected.rows_in, where)
    except DataError as error:
        return rows_of(intake).neutral(source.extent(index, which)), DataError(f"{where}: {error}")
    return payload, None
