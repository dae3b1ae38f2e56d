"""The position-wise sublayers."""

from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Enter


def gelu(rows: Tensor) -> Tensor:
    """x times the normal distribution's share below x (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    return F.gelu(rows)


def gelu_tanh(rows: Tensor) -> Tensor:
    """GELU in its tanh form (the same)."""
    return F.gelu(rows, approximate="tanh")


def quick_gelu(rows: Tensor) -> Tensor:
    """GELU in its sigmoid form, x sigmoid(1.702 x) (the same)."""
    return rows * torch.sigmoid(1.702 * rows)


def squared_relu(rows: Tensor) -> Tensor:
    """relu(x)^2 (So et al., 2021)."""
    return F.relu(rows).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu2": squared_relu,
}
"""Activations of MLPs without a gate, by the names that sizes give them."""


@final
class Mlp(nn.Module):
    """down(activation(up(x))) on rows (rows, inputs) -> (rows, outputs)."""

    def __init__(
        self, inputs: int, ffn: int, outputs: int, activation: Callable[[Tensor], Tensor], *, bias: bool
    ) -> None:
        super().__init__()
        self.enter = Enter()
        self.up = Linear(inputs, ffn, bias=bias)
        self.down = OutputLinear(ffn, outputs, bias=bias)
        self.activation = activation

    def forward(self, rows: Tensor) -> Tensor:
        (up,) = self.enter.products(rows, self.up)
        out: Tensor = self.down(self.activation(up))
        return out


@final
class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x)) on rows (rows, hidden) (SwiGLU; Shazeer, 2020)."""

    def __init__(self, hidden: int, ffn: int, *, bias: bool) -> None:
        super().__init__()
        self.enter = Enter()
        self.gate = Linear(hidden, ffn, bias=bias)
        self.up = Linear(hidden, ffn, bias=bias)
        self.down = OutputLinear(ffn, hidden, bias=bias)

    def forward(self, rows: Tensor) -> Tensor:
        gate, up = self.enter.products(rows, self.gate, self.up)
        out: Tensor = self.down(F.silu(gate) * up)
        return out
