"""Content of items of any modality, found by the intake of a module; importing this loads no torch."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from counterpoint.kinds.modality import Extent, Intake, Payload
from counterpoint.kinds.named import named
from counterpoint.modalities import MODALITIES

if TYPE_CHECKING:
    import torch

    from counterpoint.modalities.lane import Lane
    from counterpoint.models.batch import ItemBatch

P = TypeVar("P", bound=Payload)


class Rows(Protocol[P]):
    """The content of items of one modality, for one module."""

    def read(self, files: Sequence[bytes], extent: Extent) -> P:
        """The rows of an item's encoded files; raises DataError if they are bad, or not of the indexed size."""

    def neutral(self, extent: Extent) -> P:
        """Rows that stand in for an item of a size that cannot be read."""

    def noise(self, generator: np.random.Generator, extent: Extent) -> P:
        """Rows of an item of a size that are uniform in [-1, 1)."""

    def batch(self, lane: "Lane[P]", dtype: "torch.dtype") -> "ItemBatch":
        """The batch that the module reads for the rows of a lane; rows without an item are zeros."""


def rows_of(intake: Intake) -> Rows[Payload]:
    """The handler of items' content for a module."""
    rows: Rows[Payload] = named(MODALITIES[intake.kind].rows)(intake)
    return rows
