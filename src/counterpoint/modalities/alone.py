"""One item as the reference of verify lays it out: alone, in one process."""

from typing import NamedTuple

import torch

from counterpoint.kinds.modality import Intake, Payload
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES
from counterpoint.models.batch import Batch


class Alone(NamedTuple):
    """A batch of one item, before whose rows `lead` others leave, and the `grid` that these fill: (height, width), or
    (times,)."""

    batch: Batch
    lead: int
    grid: tuple[int, ...]


def lay_alone(payload: Payload, intake: Intake, dtype: torch.dtype) -> Alone:
    """What a module reads of one item."""
    alone: Alone = named(MODALITIES[intake.kind].alone)(payload, intake, dtype)
    return alone
