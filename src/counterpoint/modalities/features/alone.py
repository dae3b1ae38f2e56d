"""Features of one item alone, for the reference of verify: written apart from how they are laid beside others."""

import torch

from counterpoint.modalities.alone import Alone
from counterpoint.modalities.features.arrays import FeaturePayload
from counterpoint.modalities.features.spec import FeatureIntake
from counterpoint.models.batch import GivenBatch
from counterpoint.models.segments import Segments


def features_alone(payload: FeaturePayload, _intake: FeatureIntake, dtype: torch.dtype) -> Alone:
    """The rows as they are."""
    rows = len(payload.values)
    batch = GivenBatch(torch.tensor(payload.values, dtype=dtype), segments=Segments.build((rows,), rows))
    return Alone(batch, 0, (rows,))
