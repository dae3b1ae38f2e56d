"""The interface of data sources, and the replacement of unreadable payloads, which must not stop a run."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.kinds.modality import Extent, Intakes, Payload
from counterpoint.modalities.content import rows_of
from counterpoint.plan.samples import Document, Item
from counterpoint.sources.census import Census
from counterpoint.sources.payload import TextPayload, check_rows
from counterpoint.sources.prepared.index import Index
from counterpoint.sources.storage import persist


class Source(Protocol):
    """Documents by index: their metadata, available without reading payloads, and their payloads one by one."""

    @property
    def index(self) -> Index | None:
        """The prepared index with the texts of its documents, None for a source without one."""

    @property
    def intakes(self) -> Intakes:
        """The intakes of the modules that its items enter, by module."""

    @property
    def census(self) -> Census:
        """The census of all documents, or of an evenly spread sample if documents are drawn."""

    def __len__(self) -> int:
        """The number of documents."""

    def where(self, index: int) -> str:
        """A document in words: its number and dataset, and its row and files there if it has any."""

    def document(self, index: int) -> Document:
        """The metadata of a document; reads no payload."""

    def text(self, index: int) -> TextPayload:
        """The ids and labels of a document, of which `document(index).loss_tokens` are not NO_LABEL."""

    def extent(self, index: int, which: int) -> Extent:
        """The size of item `which` of a document, from metadata alone."""

    def item(self, index: int, which: int) -> Payload:
        """The rows of item `which` of a document; raises DataError if its bytes are bad."""


@runtime_checkable
class WithTargets(Protocol):
    """A source that has targets for losses of item rows."""

    def target(self, index: int, which: int, name: str, width: int, *, of_item: bool) -> Floats:
        """The targets `name` of item `which` of a document, float32 (n, width).

        n is the number of output rows of the item, or 1 with `of_item`. Raises DataError if there are none.
        """


@runtime_checkable
class WithVideos(Protocol):
    """A source that knows how many of its items are videos."""

    @property
    def videos(self) -> Mapping[str, int]:
        """The number of videos, of two pictures or more, by the module that they enter."""


@runtime_checkable
class InOrder(Protocol):
    """A source that may have to be read in its own order."""

    @property
    def is_sequential(self) -> bool:
        """Whether its documents are read in their order, epoch by epoch, rather than in one that the seed draws."""


def target_of(source: Source, index: int, which: int, name: str, width: int, *, of_item: bool) -> Floats:
    """`source.target`; raises DataError if the source has no targets."""
    check_targets(source, name)
    assert isinstance(source, WithTargets), "it was just checked"
    return source.target(index, which, name, width, of_item=of_item)


def check_targets(source: Source, *names: str) -> None:
    """Raise DataError if losses need targets of these names and the source has no targets."""
    if names and not isinstance(source, WithTargets):
        raise DataError(
            f"{source.where(0)}: its source has no targets, expected those of {', '.join(names)}, with which losses "
            "compare rows; take another source, or the losses out."
        )


def load_item_or_neutral(source: Source, index: int, which: int, expected: Item) -> tuple[Payload, DataError | None]:
    """Read an item; if it is unreadable or does not match the plan, return neutral rows of the planned size instead,
    and the reason. Errors of storage that may pass count once the item has failed three times."""
    where, intake = f"document {index}, item {which}", source.intakes[expected.module]
    try:
        payload = persist(lambda: source.item(index, which))
        check_rows(payload, intake.kind, expected.rows_in, where)
    except (DataError, OSError) as error:
        return rows_of(intake).neutral(source.extent(index, which)), DataError(f"{where}: {error}")
    return payload, None
