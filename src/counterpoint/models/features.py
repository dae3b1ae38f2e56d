"""Precomputed features as an encoder: rows as they are given, and a projector."""

from typing import final

from torch import Tensor, nn

from counterpoint.models.batch import GivenBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.encoder import projector_part
from counterpoint.plan.sizes import FeaturesSizes


@final
class GivenRows(nn.Module):
    """The first part: the rows (rows, width) of the batch."""

    def forward(self, _rows: Tensor | None, batch: GivenBatch) -> Tensor:
        return batch.values


def features_parts(sizes: FeaturesSizes) -> list[Part]:
    """An encoder that computes nothing, and its projector."""
    return [Part("embed", _given, makes_rows=True), projector_part(sizes, group=1)]


def _given(_earlier: Earlier) -> nn.Module:
    return GivenRows()
