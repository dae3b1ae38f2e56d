"""Precomputed features for people: an array as greys."""

from collections.abc import Sequence

import numpy as np

from counterpoint.errors import DataError
from counterpoint.kinds.modality import Extent
from counterpoint.modalities.features.arrays import FeaturePayload, read_array
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.modalities.preview import Picture, heat


class FeaturePreview:
    """Draws features, a row of the array below the other."""

    def stored(self, files: Sequence[bytes], extent: Extent) -> Picture:
        """The array as it is stored."""
        (data,) = files
        values = read_array(data)
        if values.shape != extent:
            raise DataError(f"the features are {values.shape}, but the index says {extent}; prepare the dataset again.")
        return heat(values)

    def seen(self, payload: FeaturePayload, _intake: FeatureIntake) -> Picture:
        """The same, since rows enter as they are."""
        return heat(np.asarray(payload.values))

    def oddity(self, _extent: Extent) -> str | None:
        """None: features have any number of rows."""
        return None
