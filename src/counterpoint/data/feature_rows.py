"""The rows of precomputed features among those of a batch."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.own_rows import Own, lay_whole
from counterpoint.data.payload import FeaturePayload
from counterpoint.models.batch import GivenBatch
from counterpoint.models.segments import Segments
from counterpoint.plan.sizes import FeaturesSizes


def feature_batch(
    items: Iterable[Own[FeaturePayload]], sizes: FeaturesSizes, rows: int, segments: Segments, dtype: torch.dtype
) -> GivenBatch:
    """`rows` rows of features, zeros where no item lies."""
    values = np.zeros((rows, sizes.width), dtype=np.float32)
    for own in items:
        values[own.here] = own.payload.values[own.there]
    return GivenBatch(torch.from_numpy(values).to(dtype), segments)


def pack_features(
    payloads: Sequence[FeaturePayload], sizes: FeaturesSizes, dtype: torch.dtype
) -> tuple[GivenBatch, Tensor]:
    """Whole items behind each other, and the rows int64 (rows,) of what leaves the model, which are all theirs."""
    items, segments = lay_whole(payloads)
    return feature_batch(items, sizes, segments.rows, segments, dtype), torch.arange(segments.rows)
