"""The interface of an entry of `data.train` or `data.evaluation`, which every kind of source implements."""

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Intakes, Modality
from counterpoint.modalities.images.spec import with_most_patches
from counterpoint.section.problem import Problem
from counterpoint.section.section import Count, Positive, Section, UnknownSection

if TYPE_CHECKING:
    from counterpoint.sources.source import Source


@dataclass(frozen=True, slots=True)
class Opening:
    """Arguments for opening a source: intakes of the modules, rows of a sequence, and size of the vocabulary.

    `tokenizer_digest` is the sha256 of the tokenizer that the tokens must be made with, None for any. `mtp_depths` is
    the number of further tokens that are predicted, `targets` the names of targets that losses read. `tokenizer` is the
    config's file, None without one.
    """

    intakes: Intakes
    sequence_tokens: int
    vocabulary: int
    tokenizer_digest: str | None = None
    mtp_depths: int = 0
    targets: tuple[str, ...] = ()
    tokenizer: Path | None = None

    def of(self, entry: "Entry") -> "Opening":
        """The arguments for one entry, with the settings that it has of its own."""
        tokens = self.sequence_tokens if entry.sequence_tokens is None else entry.sequence_tokens
        intakes = self.intakes
        if entry.max_patches is not None:
            intakes = {name: with_most_patches(intake, entry.max_patches) for name, intake in intakes.items()}
        return replace(self, sequence_tokens=tokens, intakes=intakes)


class EntrySection(Section):
    """What every kind of source may say of its documents besides where they come from."""

    weight: Positive = 1.0
    """Weight of the source in the blend: samples are drawn in proportion to it. No unit."""
    take: Count | None = None
    """Documents that are taken of the source, the same ones in every epoch and for every seed; of an evaluation set
    they are the first ones. Null: all. Unit: documents."""
    sequence_tokens: Count | None = None
    """Longest sequence of this source, at most `data.sequence_tokens`; longer documents are cut there. Null:
    `data.sequence_tokens`. Unit: tokens."""
    packing: bool = True
    """Whether documents of this source share sequences with others where `data.packing` says so; false: each has a
    sequence to itself."""
    max_patches: Count | None = None
    """Most patches of an image of this source, where that is less than its module allows. Null: as its module says.
    Unit: patches."""

    def said(self) -> dict[str, Any]:
        """All keys as plain data, without those of `EntrySection` that are left at their defaults: earlier versions,
        whose runs may be resumed, did not have them."""
        keys = EntrySection.model_fields.keys() - {"weight"}
        unsaid = {key for key in keys if getattr(self, key) == EntrySection.model_fields[key].default}
        return self.model_dump(mode="json", exclude=unsaid)


class UnknownEntry(UnknownSection):
    """An entry whose source belongs to a plug-in that is not loaded: only its name is known."""

    weight: float = 1.0
    """Weight of the source in the blend. No unit."""
    take: int | None = None
    """Documents that are taken of the source. Unit: documents."""
    sequence_tokens: int | None = None
    """Longest sequence of the source. Unit: tokens."""
    packing: bool = True
    """Whether its documents are packed."""
    max_patches: int | None = None
    """Most patches of an image of the source. Unit: patches."""
    split: str = "unknown"
    """Name of the source in metrics."""

    @property
    def folder(self) -> None:
        """None: its files are not known."""
        return None

    def called(self, number: int) -> str:
        """Its number among the entries."""
        return f"{self.split}:{number}"


class Entry(Protocol):
    """A section of `data.train` or `data.evaluation`: one source. `EntrySection` has the keys that all kinds have."""

    @property
    def weight(self) -> float:
        """Its weight in the blend."""

    @property
    def take(self) -> int | None:
        """Number of its documents that are taken, None for all."""

    @property
    def sequence_tokens(self) -> int | None:
        """Where its documents are cut, None for where all are."""

    @property
    def packing(self) -> bool:
        """Whether its documents are packed where documents are."""

    @property
    def max_patches(self) -> int | None:
        """The most patches of one of its images, None for as many as a module allows."""

    @property
    def split(self) -> str:
        """Its name in metrics."""

    @property
    def folder(self) -> Path | None:
        """The folder of its prepared documents, None without one."""

    def called(self, number: int) -> str:
        """A unique name of entry `number`, for use where several entries have the same `split`."""

    def problems(self, path: str, taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """Problems of the section at a config path; `taken` is the modality that each module reads."""

    def missing(self, path: str) -> Iterator[Problem]:
        """Problems with files that do not exist."""

    def content(self) -> dict[str, Any]:
        """Plain data that identifies its documents; raises DataError if it comes from a file that cannot be read."""

    def open(self, number: int, opening: Opening) -> "Source":
        """Open the source as number `number` of the run; raises DataError."""


def taken_of(entry: Entry, source: Sized) -> int:
    """Number of documents of an entry's source that are taken; raises DataError if it has fewer."""
    if entry.take is None:
        return len(source)
    if entry.take > len(source):
        where = entry.split if entry.folder is None else entry.folder
        raise DataError(
            f"take: got {entry.take:,} documents of {where}, expected at most the {len(source):,} that it has for this "
            "run; lower it, or leave it out for all."
        )
    return entry.take
