"""Series of measurements: one-dimensional arrays of floats, each window of which becomes a row."""

from dataclasses import dataclass
from random import Random
from typing import Any, final

from counterpoint.extend import Drawing, Extent, Form, Modality, Placed, Scalar, Small


@final
@dataclass(frozen=True, slots=True)
class SeriesIntake:
    """How series enter a module: a row is made of `window` samples, and each leaves as one or, with `queries`, as many
    learned ones leave in their place; `mark` stood for a series in the text that was prepared."""

    module: str
    window: int
    mark: str = "<series>"
    queries: int = 0

    @property
    def kind(self) -> str:
        """The modality of the items."""
        return SERIES.name

    @property
    def row_multiple(self) -> int:
        """Rows that leave as one: each."""
        return 1

    @property
    def prefix(self) -> int:
        """Rows of the module's own before an item: none."""
        return 0

    @property
    def identity(self) -> dict[str, Scalar | tuple[Scalar, ...]]:
        """What makes rows of a file, by the keys of the tower's section."""
        return {"window": self.window}

    def fits(self, extent: Extent) -> bool:
        """Whether the module takes a series of `extent`, (samples,): any."""
        return extent[0] > 0

    def place(self, extent: Extent) -> Placed:
        """The rows of a series of `extent`, (samples,): the last one may be filled up with zeros."""
        rows = -(-extent[0] // self.window)
        return Placed(self.module, rows, self.queries or rows, columns=None)

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which files of an entry of the index make each item: a series is one file."""
        return (slice(0, files),)

    def drawn(self, sizes: tuple[int, ...]) -> Extent:
        """The size of a synthetic series: as many samples as drawn."""
        return sizes


def _small(generator: Random, small: Small) -> dict[str, Any]:
    return {
        "series_per_document": small.number,
        "series_samples": {"kind": "uniform", "low": 1, "high": generator.choice([12, 30])},
        "without_series": small.without,
    }


SERIES = Modality(
    name="series",
    plural="series",
    read_by="a module of kind series_tower",
    columns=("samples",),
    counts=("series",),
    forms=(Form(key="series", mark="<series>", name="series", file="series file"),),
    drawing=Drawing(
        number="series_per_document",
        without="without_series",
        sizes={"series_samples": 64},
        # Streams of random numbers that no other modality has.
        stream=2**40 + 1,
        module_stream=2**40 + 2,
        small=_small,
        described={"series_samples": "Length of a series. Unit: samples."},
    ),
    size="counterpoint_example.series.arrays:extent_of",
    rows="counterpoint_example.series.rows:SeriesRows",
    alone="counterpoint_example.series.alone:series_alone",
)
