"""Linear layers: into a sublayer's inner width, and out of it again."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.exchange import Leave


@final
class Linear(nn.Module):
    """x W^T + b on rows (rows, inputs) -> (rows, outputs); `bias` is absent on request."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(outputs)) if bias else None)

    def forward(self, rows: Tensor) -> Tensor:
        return F.linear(rows, self.weight, self.bias)


@final
class OutputLinear(nn.Module):
    """leave(x W^T) + b: the linear that ends a sublayer; its product may be partial until it has left."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias: nn.Parameter | None
        self.register_parameter("bias", nn.Parameter(torch.empty(outputs)) if bias else None)
        self.leave: nn.Module = Leave()

    def forward(self, rows: Tensor) -> Tensor:
        summed: Tensor = self.leave(F.linear(rows, self.weight))
        return summed if self.bias is None else summed + self.bias
