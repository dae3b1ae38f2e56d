"""Arrays of precomputed features, in .npy files."""

import io
from dataclasses import dataclass
from typing import final

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.arrays import Floats
from counterpoint.modalities.features.spec import FEATURES

_REMEDY = "save it with numpy.save as a float array (rows, width)"


@final
@dataclass(frozen=True, slots=True)
class FeaturePayload:
    """Features of one item, computed beforehand: `values` (rows_in, width)."""

    values: Floats

    @property
    def kind(self) -> str:
        """The kind of item."""
        return FEATURES.name

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.values)

    @property
    def cells(self) -> int:
        """The number of rows."""
        return self.rows

    @property
    def described(self) -> str:
        """The shape of the rows, in words."""
        return f"{self.rows} rows of features {self.values.shape[1]} wide"


def array_extent(data: bytes, _most_pixels: int) -> tuple[int, int]:
    """See `array_size`."""
    return array_size(data)


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
