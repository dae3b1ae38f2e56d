"""Series in .npy files, and cut into windows."""

import io
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from counterpoint.extend import DataError
from counterpoint_example.series.spec import SERIES, SeriesIntake

Floats = NDArray[np.float32]


@final
@dataclass(frozen=True, slots=True)
class SeriesPayload:
    """The rows of one series: `values` (rows, window)."""

    values: Floats

    @property
    def kind(self) -> str:
        """What it is the payload of."""
        return SERIES.name

    @property
    def rows(self) -> int:
        """Rows that enter a module."""
        return len(self.values)

    @property
    def cells(self) -> int:
        """Rows as well."""
        return self.rows

    @property
    def described(self) -> str:
        """What the rows are, in words."""
        return f"{self.rows} windows of {self.values.shape[1]} samples"


def extent_of(data: bytes, _most_pixels: int) -> tuple[int]:
    """(samples,) of an encoded series; raises DataError unless `read_series` can read it."""
    return (len(read_series(data)),)


def read_series(data: bytes) -> Floats:
    """The samples of the bytes of a .npy file of floats (samples,), float32; raises DataError."""
    try:
        values: Any = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # Whatever numpy raises is about these bytes.
        raise DataError(f"the series' bytes are no .npy file ({error}); save it with numpy.save.") from error
    if not isinstance(values, np.ndarray) or values.ndim != 1 or not values.size or values.dtype.kind != "f":
        raise DataError("the series is no array of floats (samples,), at least one; save such a one with numpy.save.")
    samples: Floats = values.astype(np.float32)
    if not np.isfinite(samples).all():
        raise DataError("the series has a sample that is not finite in float32; correct it.")
    return samples


def windows_of(samples: Floats, intake: SeriesIntake) -> SeriesPayload:
    """The rows of a series, the last one filled up with zeros."""
    rows = intake.place(samples.shape).rows_in
    values = np.zeros(rows * intake.window, dtype=np.float32)
    values[: len(samples)] = samples
    return SeriesPayload(values.reshape(rows, intake.window))
