"""Gradients that must be there."""

from torch import Tensor


def gradient_of(tensor: Tensor) -> Tensor:
    """The gradient of a tensor that a backward has reached."""
    assert tensor.grad is not None, "no backward has reached it"
    return tensor.grad
