"""The interface of an entry of `data.train` or `data.evaluation`, which every kind of source implements."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from counterpoint.kinds.modality import Intakes, Modality
from counterpoint.section.problem import Problem
from counterpoint.section.section import UnknownSection

if TYPE_CHECKING:
    from counterpoint.sources.source import Source


@dataclass(frozen=True, slots=True)
class Opening:
    """Arguments for opening a source: intakes of the modules, rows of a sequence, and size of the vocabulary.

    `tokenizer_digest` is the sha256 of the tokenizer that the tokens must be made with, None for any. `mtp_depths` is
    the number of further tokens that are predicted, `targets` the names of targets that losses read.
    """

    intakes: Intakes
    sequence_tokens: int
    vocabulary: int
    tokenizer_digest: str | None = None
    mtp_depths: int = 0
    targets: tuple[str, ...] = ()


class UnknownEntry(UnknownSection):
    """An entry whose source belongs to a plug-in that is not loaded: only its name is known."""

    weight: float = 1.0
    """Weight of the source in the blend. No unit."""
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
    """A section of `data.train` or `data.evaluation`: one source."""

    @property
    def weight(self) -> float:
        """Its weight in the blend."""

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
