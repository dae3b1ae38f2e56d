"""Features that were computed beforehand: rows as they are given, through a projector."""

import pytest
import torch
from model_samples import build

from counterpoint.models.batch import GivenBatch
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import MAIN
from counterpoint.models.segments import Segments
from counterpoint.plan.model_facts import facts_of
from counterpoint.plan.sizes import FeaturesSizes, ProjectorSizes

SIZES = {
    "mlp": FeaturesSizes(width=6, out=4, projector=ProjectorSizes(hidden=8, norm="layer")),
    "linear": FeaturesSizes(width=6, out=4, projector=ProjectorSizes(kind="linear")),
}


def batch(*lengths: int) -> GivenBatch:
    """Items of noise."""
    values = torch.randn(sum(lengths), 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return GivenBatch(values, Segments.build(lengths, sum(lengths)))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_parts_and_parameters_are_those_of_the_facts(sizes: FeaturesSizes) -> None:
    built = [
        (name, {k: p.numel() for k, p in part.named_parameters()}) for name, part in build(model_parts(sizes)).parts()
    ]
    assert built == [(part.name, dict(part.tensors)) for part in facts_of(sizes).parts]


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_rows_are_projected_one_by_one(sizes: FeaturesSizes) -> None:
    chain, given = build(model_parts(sizes)), batch(2, 3)
    rows = chain(None, given)[MAIN]
    assert rows.shape == (5, 4)
    assert torch.equal(rows, chain.get_submodule("projector")(given.values, given))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_no_rows_have_a_backward_with_gradients_of_zero(sizes: FeaturesSizes) -> None:
    chain = build(model_parts(sizes))
    out = chain(None, batch())[MAIN]
    assert out.shape == (0, 4)
    torch.autograd.backward(out.sum())
    gradients = [parameter.grad for parameter in chain.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
