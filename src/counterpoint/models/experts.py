"""The experts of a mixture: many small MLPs whose weights are stacked."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.mlp import squared_relu
from counterpoint.plan.sizes import Activation


@final
class Experts(nn.Module):
    """Expert i maps its rows to down_i(activation(up_i(x))), with `swiglu` to down_i(silu(gate_i(x)) * up_i(x)).

    The number of experts follows from the weights, as does their width.
    """

    def __init__(self, experts: int, hidden: int, ffn: int, activation: Activation) -> None:
        super().__init__()
        self.gate: nn.Parameter | None
        self.register_parameter(
            "gate", nn.Parameter(torch.empty(experts, ffn, hidden)) if activation == "swiglu" else None
        )
        self.up = nn.Parameter(torch.empty(experts, ffn, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, ffn))

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        """rows (rows, hidden), the first counts[0] of expert 0, and so on; counts int64 (experts,)."""
        if self.gate is None:
            return _grouped(squared_relu(_grouped(rows, self.up, counts)), self.down, counts)
        return _grouped(F.silu(_grouped(rows, self.gate, counts)) * _grouped(rows, self.up, counts), self.down, counts)


_ALIGNED = 8
"""`grouped_mm` reads rows of 16 bytes at a time: widths in bfloat16 are multiples of 8, others take the loop."""


def _grouped(rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """Each group of rows times its own weight (outputs, inputs)."""
    if rows.is_cuda and rows.dtype == torch.bfloat16 and not any(extent % _ALIGNED for extent in weights.shape[1:]):
        return F.grouped_mm(rows, weights.transpose(1, 2), offs=counts.cumsum(0).to(torch.int32))
    groups = torch.split(rows, counts.tolist())
    return torch.cat([F.linear(group, weight) for group, weight in zip(groups, weights.unbind(), strict=True)])
