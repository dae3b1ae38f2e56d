"""Precomputed features as rows: arrays (rows, width) in .npy files, which enter a module as they are."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterpoint.data.payload import FEATURES, Extent, FeaturePayload, Floats, Kind, Placed
from counterpoint.errors import DataError

_REMEDY = "save it with numpy.save as a float array (rows, width)"


@dataclass(frozen=True, slots=True)
class FeatureSettings:
    """How features enter a module: rows `width` wide, each of which leaves as one; `mark` stood for an item in the text
    that was prepared."""

    module: str
    width: int
    mark: str = "<features>"

    @property
    def kind(self) -> Kind:
        """What the module takes."""
        return FEATURES

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
        return Placed(self.module, rows, rows, columns=None)

    def groups(self, files: int) -> tuple[slice, ...]:
        """Which files of an entry of the index make each item: features are one file."""
        return (slice(0, files),)

    def read(self, files: Sequence[bytes], extent: Extent) -> FeaturePayload:
        """The rows of an encoded array; raises DataError if it cannot be read or is not of the indexed size."""
        (data,) = files
        values = read_array(data)
        if values.shape != extent:
            raise DataError(
                f"the features are {values.shape[0]}x{values.shape[1]}, but the index says {extent[0]}x{extent[1]}; "
                "prepare the dataset again."
            )
        return FeaturePayload(values)

    def neutral(self, extent: Extent) -> FeaturePayload:
        """Rows of zeros."""
        return FeaturePayload(np.zeros(extent, dtype=np.float32))

    def noise(self, generator: np.random.Generator, extent: Extent) -> FeaturePayload:
        """Rows uniform in [-1, 1)."""
        return FeaturePayload(generator.random(extent, dtype=np.float32) * 2 - 1)


def array_size(data: bytes) -> tuple[int, int]:
    """(rows, width) of an encoded array; raises DataError unless `read_array` can read it."""
    rows, width = read_array(data).shape
    return rows, width


def read_array(data: bytes) -> Floats:
    """The array (rows, width), float32, of the bytes of a .npy file of floats; raises DataError."""
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # Whatever numpy raises is about these bytes.
        raise DataError(f"the features' bytes are no .npy file ({error}); {_REMEDY}.") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not values.size or values.dtype.kind != "f":
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise DataError(f"the features are {found}, expected floats (rows, width), at least one row; {_REMEDY}.")
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise DataError(f"the features have a number that is not finite in float32, expected finite ones; {_REMEDY}.")
    return rows
