"""The parts of an adapter, a transformer over the features of other encoders."""

from functools import partial
from typing import final

from torch import Tensor, nn

from counterpoint.families.adapter.spec import AdapterConfig
from counterpoint.families.encoder_parts import tower_parts
from counterpoint.kinds.family import Ends
from counterpoint.models.batch import FeatureBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.insert import insert
from counterpoint.models.linear import Linear


@final
class FeatureEmbedding(nn.Module):
    """The first part of an adapter: features -> rows (rows, hidden); features for the same row are added."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.linear = Linear(inputs, hidden, bias=True)

    def forward(self, _rows: Tensor | None, batch: FeatureBatch) -> Tensor:
        weight = self.linear.weight
        rows: Tensor = self.linear(insert(weight.new_zeros((batch.rows, weight.shape[1])), batch.inserts))
        return rows


def parts(section: AdapterConfig, ends: Ends) -> list[Part]:
    """The parts of an adapter, which merges no rows."""
    return tower_parts(section, ends, 1, partial(_embedding, section, ends))


def _embedding(section: AdapterConfig, ends: Ends, _earlier: Earlier) -> nn.Module:
    return FeatureEmbedding(ends.entering, section.hidden)
