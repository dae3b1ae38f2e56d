"""What a modality is: a kind of item, such as images, as data and config ask for it; without content and torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, Protocol

from counterpoint.kinds.named import named
from counterpoint.section.section import Section

Extent = tuple[int, ...]
"""The size of an item, by the columns of its modality: (height, width) of an image, (samples,) of a clip.

The number of files comes last for an entry of several: (height, width, pictures) of a part of a video."""

SIZES = ("height", "width", "samples")
"""Columns for the size of an item that an index has; each modality has some of them, and the others hold zeros."""


Scalar = str | int | float | bool | None


def extent_of(size: Extent, files: int) -> Extent:
    """The size of an item of an entry with so many files of one size: with their number, where they are several."""
    return size if files == 1 else (*size, files)


class Placed(NamedTuple):
    """An item on the way into a module: the rows that enter, and those that leave, in a grid of `columns` (None: in
    sequence, by time), unless learned rows leave in their place."""

    module: str
    rows_in: int
    rows: int
    columns: int | None


class Payload(Protocol):
    """The rows of one item that was read."""

    @property
    def kind(self) -> str:
        """The modality of the item."""

    @property
    def rows(self) -> int:
        """Rows that enter a module."""

    @property
    def cells(self) -> int:
        """Rows that its shape says: as many as it has, unless it was read wrongly."""

    @property
    def described(self) -> str:
        """What the rows are, in words."""


class Intake(Protocol):
    """How items enter one module, from their sizes alone."""

    @property
    def kind(self) -> str:
        """The modality of the items."""

    @property
    def module(self) -> str:
        """The module that they enter."""

    @property
    def mark(self) -> str:
        """What stood for an item in the text that was prepared."""

    @property
    def row_multiple(self) -> int:
        """Rows that leave the module as one."""

    @property
    def prefix(self) -> int:
        """Rows of the module's own that go before each item and do not leave it."""

    @property
    def queries(self) -> int:
        """Learned rows that leave the module for each item in the place of its own; 0: its own leave."""

    @property
    def identity(self) -> Mapping[str, Scalar | tuple[Scalar, ...]]:
        """What makes the module's input of a file, by the keys of its section."""

    def fits(self, extent: Extent) -> bool:
        """Whether the module takes an item of a size; raises DataError where no setting would let it."""

    def place(self, extent: Extent) -> Placed:
        """The rows of an item of a size."""

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which of the `files` of an entry of the index make each item."""

    def drawn(self, sizes: tuple[int, ...]) -> Extent:
        """The size of a synthetic item, from what was drawn by its modality's keys."""


Intakes = Mapping[str, Intake]
"""How items enter modules, by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Items in a record: files at its `key`, or at `plural`, each of which stands where the next `mark` is in the text.

    `name` and `file` are what an item and one of its files are called. With `is_list` an item is a list of files.
    """

    key: str
    mark: str
    name: str
    file: str
    plural: str | None = None
    is_list: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartForm:
    """An item as a part of a turn that is a list of parts, of a `type` that is no form's key.

    The file's name is at the part's key `type`, or in an object there at `field`; with `is_inline` its content is, in
    base64. It is an item of the form `key`.
    """

    type: str
    field: str
    key: str
    is_inline: bool = False


class Small(NamedTuple):
    """What is drawn once for a small recipe: a share of documents `without` items, distributions of the `number` of
    items of a document and of the `side` of a picture."""

    without: float
    number: Mapping[str, Any]
    side: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How synthetic items are drawn: the keys of a recipe, the sizes' with their defaults, and the random streams.

    `stream` is of numbers and sizes, None for that of the document, which one modality has; `module_stream` is of the
    modules that items go to. `small` draws values of the keys for `verify --random`. `described` describes the sizes'
    keys.
    """

    number: str
    without: str
    sizes: Mapping[str, int]
    stream: int | None
    module_stream: int
    small: Callable[[Random, Small], dict[str, Any]]
    described: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemSection:
    """The section of a module that says what makes its input of files.

    It stands at `key`, where modules that take several modalities choose by its key `kind`. `defaults` are of the keys
    that may be null; those that are `free` say how much of an item is seen, which a config may choose. `origin` is the
    place of what reads them from the folder that a module starts from, None where no folder says any. `small` are
    values for `verify --random`.
    """

    key: str
    section: type[Section]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    origin: str | None = None
    free: tuple[str, ...] = ()
    small: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Modality:
    """A kind of item.

    The index calls an item `name` and stores its size in `columns`. Messages call items `plural`, and a module that
    reads them `read_by`, such as `a vision module`. `counts` are the keys of the manifest that count items of one file
    and, if there are such, items of several files. The other fields are strings `package.module:name`: `size` names a
    function (encoded file, most pixels) -> extent, `rows` the code that reads content, `alone` the code that lays out
    one item for the reference, and `preview` the code that draws items for people, None where nothing does.
    """

    name: str
    plural: str
    read_by: str
    columns: tuple[str, ...]
    counts: tuple[str, ...]
    forms: tuple[Form, ...]
    parts: tuple[PartForm, ...] = ()
    drawing: Drawing
    section: ItemSection | None = None
    size: str
    rows: str
    alone: str
    preview: str | None = None

    @property
    def mark(self) -> str:
        """What stands for an item in a text, where no edge names another mark."""
        return self.forms[0].mark

    @property
    def has_lists(self) -> bool:
        """Whether an item may be a list of files."""
        return any(form.is_list for form in self.forms)

    def count(self, files: int) -> str:
        """The key of the manifest that counts items of this number of files."""
        return self.counts[min(files, len(self.counts)) - 1]

    def extent(self, data: bytes, most_pixels: int) -> Extent:
        """The size of an encoded file; raises DataError if it is unreadable, or a picture of more pixels."""
        size: Extent = named(self.size)(data, most_pixels)
        return size
