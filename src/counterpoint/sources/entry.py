"""What an entry of the config's data says of itself, whatever source it is of."""

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
    """What sources are opened with: how items enter modules, the rows of a sequence, and the words.

    `tokenizer_digest` is the sha256 of the tokenizer that made them, None for any. `mtp_depths` further tokens are
    predicted; `targets` are the names of those that losses compare rows with.
    """

    intakes: Intakes
    sequence_tokens: int
    vocabulary: int
    tokenizer_digest: str | None = None
    mtp_depths: int = 0
    targets: tuple[str, ...] = ()


class UnknownEntry(UnknownSection):
    """An entry of a source that a plug-in brings, where none is loaded: what it is called is all that is known."""

    weight: float = 1.0
    """Weight of the source in the blend. No unit."""
    split: str = "unknown"
    """Name of the source in metrics."""

    @property
    def folder(self) -> None:
        """None: where anything lies is not known."""
        return None

    def called(self, number: int) -> str:
        """Which entry it is."""
        return f"{self.split}:{number}"


class Entry(Protocol):
    """A section of `data.train` or `data.evaluation`: one source."""

    @property
    def weight(self) -> float:
        """Its weight in the blend."""

    @property
    def split(self) -> str:
        """What metrics call it."""

    @property
    def folder(self) -> Path | None:
        """Where its prepared documents lie, if anywhere."""

    def called(self, number: int) -> str:
        """What it is called as entry `number`, where `split` says too little."""

    def problems(self, path: str, taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """What is wrong with the section at a path, for modules that take items."""

    def missing(self, path: str) -> Iterator[Problem]:
        """Which of its files are not there."""

    def content(self) -> dict[str, Any]:
        """What decides its documents, as plain data; raises DataError where files say it that cannot be read."""

    def open(self, number: int, opening: Opening) -> "Source":
        """The source, which is number `number` of the run's; raises DataError."""
