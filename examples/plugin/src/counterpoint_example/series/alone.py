"""One series alone, for the reference of `verify`: written apart from how it is laid beside others."""

import torch

from counterpoint.extend.data import Alone, GivenBatch, Segments
from counterpoint_example.series.arrays import SeriesPayload
from counterpoint_example.series.spec import SeriesIntake


def series_alone(payload: SeriesPayload, _intake: SeriesIntake, dtype: torch.dtype) -> Alone:
    """Its rows as they are, from the first on."""
    rows = payload.rows
    batch = GivenBatch(values=torch.tensor(payload.values, dtype=dtype), segments=Segments.build((rows,), rows))
    return Alone(batch, lead=0, grid=(rows,))
