"""Content of items as rows, whatever their modality: the side that knows torch, found by the intake of a module."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from counterpoint.kinds.modality import Extent, Intake, Payload
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES
from counterpoint.modalities.lane import Laid, Lane
from counterpoint.models.batch import ItemBatch
from counterpoint.plan.samples import Item

P = TypeVar("P", bound=Payload)


class Rows(Protocol[P]):
    """The content of items of one modality, for one module."""

    def read(self, files: Sequence[bytes], extent: Extent) -> P:
        """The rows of an item's encoded files; raises DataError if they are bad, or not of the indexed size."""

    def neutral(self, extent: Extent) -> P:
        """Rows that stand in for an item of a size that cannot be read."""

    def noise(self, generator: np.random.Generator, extent: Extent) -> P:
        """Rows of an item of a size that are uniform in [-1, 1)."""

    def batch(self, lane: Lane[P], dtype: torch.dtype) -> ItemBatch:
        """What the module reads of the rows of a lane; where no item lies are zeros."""


def rows_of(intake: Intake) -> Rows[Payload]:
    """How content of items enters a module."""
    rows: Rows[Payload] = named(MODALITIES[intake.kind].rows)(intake)
    return rows


def batch_of(intake: Intake, lane: Lane[Payload], dtype: torch.dtype) -> ItemBatch:
    """What a module reads of a lane, and which rows leave it for its items."""
    batch = rows_of(intake).batch(lane, dtype)
    return replace(batch, sampled=lane.sampled(intake.row_multiple, intake.queries)) if intake.queries else batch


def pack_items(intake: Intake, items: Sequence[tuple[Item, Payload]], dtype: torch.dtype) -> tuple[ItemBatch, Tensor]:
    """Whole items behind each other, and the rows int64 (rows_out,) of what leaves the module that belong to them."""
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
