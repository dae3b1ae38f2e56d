"""Copies of weights that a rank holds whole: what layers multiply with, and where gradients gather."""

import gc
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint.layers.moe.experts import Experts
from counterpoint.parallelize.whole import Rounded, RoundedCopy, copies_of, round_weights


def weight() -> nn.Parameter:
    """A weight that bfloat16 does not hold exactly."""
    return nn.Parameter(torch.arange(1.0, 5.0) / 3)


def backward(copy: RoundedCopy, gradient: Tensor) -> None:
    """One microbatch, with this gradient of the weight."""
    copy.current().backward(gradient)


def test_the_first_gradient_stays_as_it_is_and_further_ones_are_added_in_the_dtype_of_reduction() -> None:
    copy = RoundedCopy(weight(), torch.bfloat16, torch.float32)
    first, second = torch.full((4,), 256.0).bfloat16(), torch.full((4,), 0.5).bfloat16()
    backward(copy, first)
    held = copy.weight.grad
    assert held is not None
    assert held.dtype == torch.bfloat16
    assert torch.equal(held, first)
    backward(copy, second)
    backward(copy, second)
    gathered = copy.weight.grad
    assert gathered is not None
    assert gathered.dtype == torch.float32
    assert torch.equal(gathered, torch.full((4,), 257.0))
    assert copy.values.grad is None


def test_a_copy_is_made_again_once_its_weight_was_written_unless_it_was_written_too() -> None:
    copy = RoundedCopy(weight(), torch.bfloat16, torch.float32)
    with torch.no_grad():
        assert torch.equal(copy.current(), copy.weight.bfloat16())
        copy.weight.mul_(2)
        assert [copy.is_current] == [False]
        assert torch.equal(copy.current(), copy.weight.bfloat16())
        # As a kernel does that autograd knows nothing of.
        copy.weight.detach().numpy()[:] *= 2
        assert [copy.is_current] == [True]
        copy.settle(is_current=False)
        assert torch.equal(copy.current(), copy.weight.bfloat16())
        copy.values.fill_(7)
        copy.weight.fill_(7)
        copy.settle(is_current=True)
        assert [copy.is_current] == [True]


def test_a_backward_that_leaves_the_gradient_to_others_adds_none() -> None:
    copy = RoundedCopy(weight(), torch.bfloat16, torch.float32)
    rows = torch.ones(4, requires_grad=True)
    _Deferred.apply(rows, copy.current()).sum().backward()
    assert copy.weight.grad is None
    copy.add(torch.ones(4))
    assert copy.weight.grad is not None


class _Deferred(torch.autograd.Function):
    """A product whose weight gradient is computed elsewhere."""

    @staticmethod
    def forward(_ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        return rows * weight

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def test_a_copy_is_freed_with_its_weight() -> None:
    """Python cannot see what hooks hold, and runs do not collect while they train."""
    gc.disable()
    try:
        copy = RoundedCopy(weight(), torch.bfloat16, torch.float32)
        backward(copy, torch.ones(4).bfloat16())
        seen = weakref.ref(copy), weakref.ref(copy.values)
        del copy
        assert [one() for one in seen] == [None, None]
    finally:
        gc.enable()


def test_experts_multiply_with_copies_only_where_dtypes_differ() -> None:
    narrow, wide = (Experts(2, 4, 8, "relu2") for _experts in range(2))
    round_weights(narrow, torch.bfloat16, torch.float32)
    round_weights(wide, torch.float32, torch.float32)
    assert isinstance(narrow.stored, Rounded)
    assert not isinstance(wide.stored, Rounded)
    assert copies_of(nn.ModuleDict({"moe": narrow, "other": wide})).keys() == {"moe.up", "moe.down"}
    assert narrow.stored(narrow.up) is narrow.stored(narrow.up)
    assert not narrow.stored(nn.Parameter(torch.ones(2), requires_grad=False)).requires_grad
