"""The position-wise sublayers."""

from collections.abc import Callable
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.exchange import Enter
from counterpoint.models.linear import Linear, OutputLinear


def gelu(rows: Tensor) -> Tensor:
    """GELU in its tanh form (Hendrycks and Gimpel, 2016)."""
    return F.gelu(rows, approximate="tanh")


def squared_relu(rows: Tensor) -> Tensor:
    """relu(x)^2 (So et al., 2021)."""
    return F.relu(rows).square()


@final
class Mlp(nn.Module):
    """down(activation(up(x))) on rows (rows, inputs) -> (rows, outputs)."""

    def __init__(
        self, inputs: int, ffn: int, outputs: int, activation: Callable[[Tensor], Tensor], *, bias: bool
    ) -> None:
        super().__init__()
        self.enter: nn.Module = Enter()
        self.up = Linear(inputs, ffn, bias=bias)
        self.down = OutputLinear(ffn, outputs, bias=bias)
        self.activation = activation

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.down(self.activation(self.up(self.enter(rows))))
        return out


@final
class GatedMlp(nn.Module):
    """down(silu(gate(x)) * up(x)) on rows (rows, hidden) (SwiGLU; Shazeer, 2020)."""

    def __init__(self, hidden: int, ffn: int, *, bias: bool) -> None:
        super().__init__()
        self.enter: nn.Module = Enter()
        self.gate = Linear(hidden, ffn, bias=bias)
        self.up = Linear(hidden, ffn, bias=bias)
        self.down = OutputLinear(ffn, hidden, bias=bias)

    def forward(self, rows: Tensor) -> Tensor:
        inputs = self.enter(rows)
        out: Tensor = self.down(F.silu(self.gate(inputs)) * self.up(inputs))
        return out
