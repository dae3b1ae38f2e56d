"""Content of items of any modality as batches of rows."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from counterpoint.kinds.modality import Intake, Payload
from counterpoint.modalities.content import rows_of
from counterpoint.modalities.lane import Laid, Lane
from counterpoint.models.batch import ItemBatch
from counterpoint.plan.samples import Item


def batch_of(intake: Intake, lane: Lane[Payload], dtype: torch.dtype) -> ItemBatch:
    """The batch that a module reads for a lane, and its output rows for the items."""
    batch = rows_of(intake).batch(lane, dtype)
    return replace(batch, sampled=lane.sampled(intake.row_multiple, intake.queries)) if intake.queries else batch


def pack_items(intake: Intake, items: Sequence[tuple[Item, Payload]], dtype: torch.dtype) -> tuple[ItemBatch, Tensor]:
    """A batch of complete items one after the other, and the indices int64 (rows_out,) of the module's output rows that
    belong to them."""
    multiple, queries = intake.row_multiple, intake.queries
    lead = -(-intake.prefix // multiple) * multiple
    starts = accumulate((lead + item.rows_in for item, _payload in items), initial=lead)
    laid = [
        Laid(start, item.rows_in, item.columns, number * queries)
        for number, (start, (item, _payload)) in enumerate(zip(starts, items))
    ]
    lane = Lane.whole([payload for _item, payload in items], laid, len(items) * queries)
    if queries:
        return batch_of(intake, lane, dtype), torch.arange(lane.rows_out)
    kept = [torch.arange(at.row // multiple, (at.row + at.rows) // multiple) for at in laid]
    return batch_of(intake, lane, dtype), torch.cat([torch.arange(0), *kept])
