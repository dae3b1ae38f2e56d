"""The position-wise sublayers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.kinds.names import Activation
from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.models.seams import Cheap, Enter


def gelu(rows: Tensor) -> Tensor:
    """x times the standard normal distribution function of x (Hendrycks and Gimpel, 2016, arXiv:1606.08415)."""
    return F.gelu(rows)


def gelu_tanh(rows: Tensor) -> Tensor:
    """GELU approximated with tanh (the same paper)."""
    return F.gelu(rows, approximate="tanh")


def quick_gelu(rows: Tensor) -> Tensor:
    """GELU approximated as x sigmoid(1.702 x) (the same paper)."""
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
"""Activations of MLPs without a gate, by their names in configs."""

GATES: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": F.silu, "geglu_tanh": gelu_tanh}
"""Activations of the gates of gated MLPs, by their names in configs."""


class Halves(nn.Module, ABC):
    """A sublayer on rows in two halves, so that something else can happen between them."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.out_of(self.into(rows))

    @abstractmethod
    def into(self, rows: Tensor) -> Tensor:
        """Rows (rows, inputs) -> inner values (rows, ffn)."""

    @abstractmethod
    def out_of(self, inner: Tensor) -> Tensor:
        """Inner values (rows, ffn) -> (rows, outputs)."""


@final
class Activated(Cheap):
    """activation(x), or activation(gate) * x if a gate comes before x, times a weight (rows,) of each row if there are
    any; rows (rows, width) -> the same."""

    what = "activations"

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, first: Tensor, second: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
        activated = self.activation(first)
        activated = activated if second is None else activated * second
        return activated if weights is None else (activated * weights[:, None]).to(first.dtype)


@final
class Mlp(Halves):
    """down(activation(up(x))) on rows (rows, inputs) -> (rows, outputs)."""

    def __init__(
        self, inputs: int, ffn: int, outputs: int, activation: Callable[[Tensor], Tensor], *, bias: bool
    ) -> None:
        super().__init__()
        self.enter = Enter()
        self.up = Linear(inputs, ffn, bias=bias)
        self.down = OutputLinear(ffn, outputs, bias=bias)
        self.activation = Activated(activation)

    def into(self, rows: Tensor) -> Tensor:
        (up,) = self.enter.products(rows, self.up)
        out: Tensor = self.activation(up)
        return out

    def out_of(self, inner: Tensor) -> Tensor:
        out: Tensor = self.down(inner)
        return out


@final
class GatedMlp(Halves):
    """down(activation(gate(x)) * up(x)) on rows (rows, hidden) (SwiGLU, GEGLU; Shazeer, 2020)."""

    def __init__(self, hidden: int, ffn: int, activation: Callable[[Tensor], Tensor], *, bias: bool) -> None:
        super().__init__()
        self.enter = Enter()
        self.gate = Linear(hidden, ffn, bias=bias)
        self.up = Linear(hidden, ffn, bias=bias)
        self.down = OutputLinear(ffn, hidden, bias=bias)
        self.activation = Activated(activation)

    def into(self, rows: Tensor) -> Tensor:
        gate, up = self.enter.products(rows, self.gate, self.up)
        out: Tensor = self.activation(gate, up)
        return out

    def out_of(self, inner: Tensor) -> Tensor:
        out: Tensor = self.down(inner)
        return out


def mlp_of(activation: Activation, hidden: int, ffn: int, *, bias: bool) -> Halves:
    """The MLP with this activation, rows (rows, hidden) -> the same."""
    if activation in GATES:
        return GatedMlp(hidden, ffn, GATES[activation], bias=bias)
    return Mlp(hidden, ffn, hidden, ACTIVATIONS[activation], bias=bias)
