"""The config section of a registered source: its name, its split and its options."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from counterpoint.kinds.modality import Modality
from counterpoint.kinds.named import named
from counterpoint.section.problem import Problem, show
from counterpoint.section.section import Text
from counterpoint.sources.entry import EntrySection, Opening
from counterpoint.sources.registered.registered import REGISTERED_SOURCES

if TYPE_CHECKING:
    from counterpoint.sources.source import Source


class RegisteredEntry(EntrySection):
    """A source that a Python program registers, and its weight in the blend."""

    registered: Text
    """Name under which `counterpoint.register_source` registered it."""
    split: Text = "train"
    """Split of the dataset, which the registered function gets."""
    options: dict[Text, Any] = Field(default_factory=dict)
    """Options that the registered function gets. No unit."""
    order: Literal["shuffled", "sequential"] = "shuffled"
    """Whether each epoch has an order of its own, drawn by `run.seed`, or that of the dataset; a stream is read in its
    own order only."""
    cache: Text | None = None
    """Folder for the sizes of documents, which are computed once; null: a folder in `~/.cache/counterpoint/sources`."""

    @property
    def folder(self) -> Path | None:
        """None: it has no prepared folder."""
        return None

    def called(self, _number: int) -> str:
        """Its name and split."""
        return f"{self.registered}:{self.split}"

    def problems(self, path: str, _taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """A problem if nothing is registered under its name, or its options are not plain data."""
        if self.registered not in REGISTERED_SOURCES:
            expected, remedy = REGISTERED_SOURCES.expected, REGISTERED_SOURCES.remedy(self.registered)
            yield Problem(f"{path}.registered", show(self.registered), expected, remedy)
        try:
            json.dumps(self.options)
        except (TypeError, ValueError):
            yield Problem(f"{path}.options", show(self.options), "numbers, texts, lists and mappings", "correct them")

    def missing(self, _path: str) -> Iterator[Problem]:
        """None: the registered function finds its files."""
        yield from ()

    def content(self) -> dict[str, Any]:
        """The identity of the dataset, with what the registered function gets; raises DataError."""
        dataset = REGISTERED_SOURCES[self.registered].dataset(self.split, self.options)
        values = self.said() | {"options": json.dumps(self.options, sort_keys=True), "identity": dataset.identity}
        # Sizes are the same wherever they are kept.
        del values["cache"]
        return values

    def open(self, number: int, opening: Opening) -> "Source":
        """Open the dataset; computes the sizes of its documents if that was not done before. Raises DataError."""
        source: Source = named("counterpoint.data.own.open:open_registered")(self, number, opening)
        return source
