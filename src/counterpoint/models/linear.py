"""Linear layers: into a sublayer's inner width, and out of it again."""

from typing import final

import torch
from torch import Tensor, nn

from counterpoint.models.multiply import AddBias, Multiply
from counterpoint.models.seams import Leave, Product


@final
class Linear(Product):
    """x W^T + b on rows (rows, inputs) -> (rows, outputs); the bias is optional."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_parameter("bias", nn.Parameter(torch.empty(outputs)) if bias else None)
        self.multiply = Multiply()

    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = self.multiply(rows, self.weight, self.bias)
        return out


@final
class OutputLinear(Product):
    """leave(x W^T) + b: the last linear of a sublayer; under tensor parallelism `leave` sums partial products."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_parameter("bias", nn.Parameter(torch.empty(outputs)) if bias else None)
        self.multiply = Multiply()
        self.leave = Leave()
        self.add_bias: nn.Module = AddBias()

    def forward(self, rows: Tensor) -> Tensor:
        summed = self.leave.product(rows, self.weight, self.multiply)
        return summed if self.bias is None else self.add_bias(summed, self.bias)
