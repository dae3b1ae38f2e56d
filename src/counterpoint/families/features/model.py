"""An encoder of precomputed features: only a projector."""

from typing import final

from torch import Tensor, nn

from counterpoint.families.encoder_parts import projector_part
from counterpoint.families.features.spec import FeaturesConfig
from counterpoint.kinds.family import Ends
from counterpoint.models.batch import GivenBatch
from counterpoint.models.chain import Earlier, Part


@final
class GivenRows(nn.Module):
    """The first part: returns the rows (rows, width) of the batch."""

    def forward(self, _rows: Tensor | None, batch: GivenBatch) -> Tensor:
        return batch.values


def parts(section: FeaturesConfig, ends: Ends) -> list[Part]:
    """The parts `embed`, which returns the given rows, and `projector`."""
    return [Part("embed", _given, makes_rows=True), projector_part(section, ends, group=1)]


def _given(_earlier: Earlier) -> nn.Module:
    return GivenRows()
