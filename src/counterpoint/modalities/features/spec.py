"""Precomputed features: arrays (rows, width) whose rows enter a module as they are."""

from dataclasses import dataclass
from random import Random
from typing import Any, final

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Drawing, Extent, Form, Modality, Placed, Scalar, Small


@final
@dataclass(frozen=True, slots=True)
class FeatureIntake:
    """How features enter a module: rows `width` columns wide, which leave one by one, or with `queries` are replaced by
    that many learned rows; `mark` stood for an item in the text that was prepared."""

    module: str
    width: int
    mark: str = "<features>"
    queries: int = 0

    @property
    def kind(self) -> str:
        """The kind of item that the module takes."""
        return FEATURES.name

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
        """Empty: rows follow from the file alone."""
        return {}

    def fits(self, extent: Extent) -> bool:
        """Whether the module takes an item of `extent`, (rows, width).

        Raises DataError for another width: no other settings would make it fit.
        """
        _rows, width = extent
        if width != self.width:
            raise DataError(
                f"module '{self.module}' takes features {self.width} wide, but there are some that are {width} wide; "
                f"set modules.{self.module}.model.width={width} or compute them again."
            )
        return True

    def place(self, extent: Extent) -> Placed:
        """The rows of an item of `extent`, (rows, width); they follow one another, like text."""
        rows, _width = extent
        return Placed(self.module, rows, self.queries or rows, columns=None)

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which files of an entry of the index make each item: features are one file."""
        return (slice(0, files),)

    def drawn(self, sizes: tuple[int, ...]) -> Extent:
        """The size of synthetic features: as many rows as drawn, as wide as the module takes them."""
        (rows,) = sizes
        return rows, self.width


def _small(generator: Random, small: Small) -> dict[str, Any]:
    return {
        "features_per_document": small.number,
        "feature_rows": {"kind": "uniform", "low": 1, "high": generator.choice([4, 9])},
        "without_features": small.without,
    }


FEATURES = Modality(
    name="features",
    plural="features",
    read_by="a module of kind features",
    columns=("height", "width"),
    counts=("features",),
    forms=(Form(key="features", mark="<features>", name="features file", file="features file"),),
    drawing=Drawing(
        number="features_per_document",
        without="without_features",
        sizes={"feature_rows": 64},
        stream=2**32 + 4,
        module_stream=2**32 + 5,
        small=_small,
        described={"feature_rows": "Rows of an item, as wide as its module takes them. Unit: rows."},
    ),
    size="counterpoint.modalities.features.arrays:array_extent",
    rows="counterpoint.modalities.features.rows:FeatureRows",
    alone="counterpoint.modalities.features.alone:features_alone",
    preview="counterpoint.modalities.features.preview:FeaturePreview",
)
