"""Series as rows: read, stood in for, and laid out in a lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from counterpoint.extend import DataError, Extent
from counterpoint.extend.data import GivenBatch, Lane
from counterpoint_example.series.arrays import SeriesPayload, read_series, windows_of
from counterpoint_example.series.spec import SeriesIntake


@final
@dataclass(frozen=True, slots=True)
class SeriesRows:
    """How content of series enters a module."""

    intake: SeriesIntake

    def read(self, files: Sequence[bytes], extent: Extent) -> SeriesPayload:
        """The rows of an encoded series; raises DataError if it cannot be read or is not as long as indexed."""
        samples = read_series(files[0])
        if samples.shape != extent:
            raise DataError(f"the series has {len(samples)} samples, but the index says {extent[0]}; prepare it again.")
        return windows_of(samples, self.intake)

    def neutral(self, extent: Extent) -> SeriesPayload:
        """Rows of zeros."""
        return windows_of(np.zeros(extent, dtype=np.float32), self.intake)

    def noise(self, generator: np.random.Generator, extent: Extent) -> SeriesPayload:
        """Samples uniform in [-1, 1)."""
        return windows_of(generator.random(extent, dtype=np.float32) * 2 - 1, self.intake)

    def batch(self, lane: Lane[SeriesPayload], dtype: torch.dtype) -> GivenBatch:
        """The process's own rows, zeros where no series lies."""
        values = np.zeros((lane.own_rows, self.intake.window), dtype=np.float32)
        for own in lane.own:
            values[own.here] = own.payload.values[own.there]
        return GivenBatch(values=torch.from_numpy(values).to(dtype), segments=lane.segments())
