"""The rows of precomputed features among those of a batch."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from counterpoint.data.payload import FeaturePayload
from counterpoint.models.batch import GivenBatch
from counterpoint.models.segments import Segments
from counterpoint.plan.sizes import FeaturesSizes


class OwnFeatures(NamedTuple):
    """An item of which a process holds rows: `here` among its own are `there` of the item."""

    payload: FeaturePayload
    here: slice
    there: slice


def feature_batch(
    items: Iterable[OwnFeatures], sizes: FeaturesSizes, rows: int, segments: Segments, dtype: torch.dtype
) -> GivenBatch:
    """`rows` rows of features, zeros where no item lies."""
    values = np.zeros((rows, sizes.width), dtype=np.float32)
    for payload, here, there in items:
        values[here] = payload.values[there]
    return GivenBatch(torch.from_numpy(values).to(dtype), segments)


def pack_features(
    payloads: Sequence[FeaturePayload], sizes: FeaturesSizes, dtype: torch.dtype
) -> tuple[GivenBatch, Tensor]:
    """Whole items behind each other, and the rows int64 (rows,) of what leaves the model, which are all theirs."""
    items, row = list[OwnFeatures](), 0
    for payload in payloads:
        items.append(OwnFeatures(payload, slice(row, row + payload.rows), slice(0, payload.rows)))
        row += payload.rows
    segments = Segments.build([payload.rows for payload in payloads], row)
    return feature_batch(items, sizes, row, segments, dtype), torch.arange(row)
