"""Documents that say the period of a wave, as an entry of the config's data."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from counterpoint.extend import Count, EntrySection, Index, Modality, NonNegative, Opening, Problem, Section
from counterpoint_example.series.spec import SERIES

if TYPE_CHECKING:
    from counterpoint.extend.data import Source

WORDS = 11
"""The digits, and what ends a document."""


class WavesRecipe(Section):
    """Documents of one series each, a sine with noise, and its period in digits."""

    documents: Count
    """Number of documents. Unit: documents."""
    seed: Index = 0
    """What the periods, phases and noise are drawn from. No unit."""
    samples: Count = 48
    """Length of each series. Unit: samples."""
    longest: Annotated[int, Field(ge=2, le=99)] = 20
    """Longest period; the shortest is 2. Unit: samples."""
    noise: NonNegative = 0.1
    """Standard deviation of what is added to each sample of a wave of height 1. No unit."""


class WavesEntry(EntrySection):
    """A source of waves, and its weight in the blend."""

    waves: WavesRecipe
    """What the documents are."""

    @property
    def split(self) -> str:
        """What metrics call it."""
        return "waves"

    @property
    def folder(self) -> None:
        """None: nothing lies anywhere."""
        return None

    def called(self, number: int) -> str:
        """That it is of waves, and which entry it is."""
        return f"waves:{number}"

    def problems(self, path: str, taken: Mapping[str, Modality]) -> Iterator[Problem]:
        """That no module reads series."""
        if SERIES not in taken.values():
            expected = f"{SERIES.read_by} and its edge, which reads the series"
            yield Problem(f"{path}.waves", "no module that takes series", expected, "add one, or remove the entry")

    def missing(self, _path: str) -> Iterator[Problem]:
        """None: it needs no files."""
        yield from ()

    def content(self) -> dict[str, Any]:
        """What decides its documents."""
        return self.said()

    def open(self, number: int, opening: Opening) -> "Source":
        """The source; raises DataError where a document has no room, or the model too few words."""
        from counterpoint_example.waves.source import Waves

        return Waves(self.waves, number, opening)
