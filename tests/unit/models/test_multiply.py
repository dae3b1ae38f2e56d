"""One kernel over all groups and a loop over them compute the same products and the same gradients."""

import pytest
import torch
from torch import Tensor

from counterpoint.models.multiply import grouped_product, grouped_weight_gradient, groups_of

COUNTS = ([3, 0, 5, 2], [0, 0, 0, 7], [0, 0, 0, 0])
INPUTS, OUTPUTS = 16, 24


def _drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(torch.bfloat16)


@pytest.mark.parametrize("counts", COUNTS)
def test_the_kernel_and_the_loop_agree(counts: list[int]) -> None:
    ends = torch.tensor(counts).cumsum(0).to(torch.int32)
    rows, weights = _drawn(sum(counts), INPUTS), _drawn(len(counts), OUTPUTS, INPUTS)
    gradient = _drawn(sum(counts), OUTPUTS)
    turned = weights.transpose(1, 2)
    for kernel, loop in (
        (grouped_product(rows, weights, ends), grouped_product(rows, weights, counts)),
        (grouped_product(gradient, turned, ends), grouped_product(gradient, turned, counts)),
        (grouped_weight_gradient(gradient, rows, ends), grouped_weight_gradient(gradient, rows, counts)),
    ):
        torch.testing.assert_close(kernel, loop)


@pytest.mark.parametrize("counts", COUNTS)
def test_gradients_are_those_of_autograd(counts: list[int]) -> None:
    rows, weights = _drawn(sum(counts), INPUTS).double(), _drawn(len(counts), OUTPUTS, INPUTS).double().requires_grad_()
    gradient = _drawn(sum(counts), OUTPUTS).double()
    groups = groups_of(torch.tensor(counts), rows, weights)
    (expected,) = torch.autograd.grad(grouped_product(rows, weights, groups), weights, gradient)
    torch.testing.assert_close(grouped_weight_gradient(gradient, rows, groups), expected)
