"""Features that were computed beforehand: rows as they are given, through a projector."""

import pytest
import torch

from counterpoint.kinds.family import Model
from counterpoint.models.chain import MAIN
from tests.unit.models.model_samples import GIVEN, build, given_batch


@pytest.mark.parametrize("model", GIVEN.values(), ids=GIVEN)
def test_rows_are_projected_one_by_one(model: Model) -> None:
    chain, given = build(model), given_batch(model, (2, 3))
    rows = chain(None, given)[MAIN]
    assert rows.shape == (5, 4)
    assert torch.equal(rows, chain.get_submodule("projector")(given.values, given))


@pytest.mark.parametrize("model", GIVEN.values(), ids=GIVEN)
def test_no_rows_have_a_backward_with_gradients_of_zero(model: Model) -> None:
    chain = build(model)
    out = chain(None, given_batch(model, ()))[MAIN]
    assert out.shape == (0, 4)
    torch.autograd.backward(out.sum())
    gradients = [parameter.grad for parameter in chain.parameters()]
    assert all(gradient is not None and not gradient.any() for gradient in gradients)
