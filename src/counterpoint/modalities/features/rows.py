"""Precomputed features as rows: how they are read, replaced where unreadable, and laid out in a lane."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Extent
from counterpoint.modalities.features.arrays import FeaturePayload, read_array
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.lane import Lane
from counterpoint.models.batch import GivenBatch


@final
@dataclass(frozen=True, slots=True)
class FeatureRows:
    """How features enter a module."""

    intake: FeatureIntake

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

    def batch(self, lane: Lane[FeaturePayload], dtype: torch.dtype) -> GivenBatch:
        """The process's own rows, zeros where there is no item."""
        values = np.zeros((lane.own_rows, self.intake.width), dtype=np.float32)
        for own in lane.own:
            values[own.here] = own.payload.values[own.there]
        return GivenBatch(torch.from_numpy(values).to(dtype), segments=lane.segments())
