"""What every data source offers, and how a bad payload is kept from stopping a run."""

from typing import Protocol, runtime_checkable

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
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


@runtime_checkable
class WithTargets(Protocol):
    """A source of which losses of items' rows find the targets."""

    def target(self, index: int, which: int, name: str, width: int, *, of_item: bool) -> Floats:
        """What a loss compares item `which` of a document with: the targets of a name, float32 (n, width), one for
        each row that leaves a module for the item, or one `of_item`; raises DataError if there are no such."""


def target_of(source: Source, index: int, which: int, name: str, width: int, *, of_item: bool) -> Floats:
    """The targets of a name for an item, as WithTargets says; raises DataError for a source without any."""
    check_targets(source, name)
    assert isinstance(source, WithTargets), "it was just checked"
    return source.target(index, which, name, width, of_item=of_item)


def check_targets(source: Source, *names: str) -> None:
    """Raise DataError if losses compare rows with targets of these names and the source has none of any name."""
    if names and not isinstance(source, WithTargets):
        raise DataError(
            f"{source.where(0)}: its source has no targets, expected those of {', '.join(names)}, with which losses "
            "compare rows; take another source, or the losses out."
        )


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
