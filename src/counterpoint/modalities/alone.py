"""One item alone in one process, as the reference of verify lays it out."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch

from counterpoint.kinds.modality import Intake, Payload
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES
from counterpoint.models.batch import ItemBatch
from counterpoint.models.segments import Sampled


class Alone(NamedTuple):
    """A batch of one item with `lead` rows before its own, and the `grid` that its own fill: (height, width),
    or (times,)."""

    batch: ItemBatch
    lead: int
    grid: tuple[int, ...]


def lay_alone(payload: Payload, intake: Intake, dtype: torch.dtype) -> Alone:
    """The batch that a module reads for one item."""
    alone: Alone = named(MODALITIES[intake.kind].alone)(payload, intake, dtype)
    return _sampled(alone, intake.queries) if intake.queries else alone


def _sampled(alone: Alone, queries: int) -> Alone:
    """The same batch where learned rows leave in place of the item's own, in one sequence."""
    own = torch.arange(math.prod(alone.grid)) + alone.lead
    batch = replace(alone.batch, sampled=Sampled.build([own], [0], queries, queries))
    return Alone(batch, 0, (queries,))
