"""A transformer over the features that other encoders made of an item, as a list of parts."""

from functools import partial
from typing import final

from torch import Tensor, nn

from counterpoint.models.batch import FeatureBatch
from counterpoint.models.chain import Earlier, Part
from counterpoint.models.encoder import encoder_parts
from counterpoint.models.insert import insert
from counterpoint.models.linear import Linear
from counterpoint.plan.sizes import AdapterSizes


@final
class FeatureEmbedding(nn.Module):
    """The first part of an adapter: it makes rows (rows, hidden) out of features, which add up where they meet."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.linear = Linear(inputs, hidden, bias=True)

    def forward(self, _rows: Tensor | None, batch: FeatureBatch) -> Tensor:
        weight = self.linear.weight
        rows: Tensor = self.linear(insert(weight.new_zeros((batch.rows, weight.shape[1])), batch.inserts))
        return rows


def adapter_parts(sizes: AdapterSizes) -> list[Part]:
    """An encoder of features, which merges nothing."""
    return encoder_parts(sizes, 1, partial(_embedding, sizes))


def _embedding(sizes: AdapterSizes, _earlier: Earlier) -> nn.Module:
    return FeatureEmbedding(sizes.inputs, sizes.hidden)
