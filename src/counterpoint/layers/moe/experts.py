"""The experts of a mixture: many small MLPs whose weights are stacked."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from counterpoint.kinds.names import Activation
from counterpoint.models.mlp import ACTIVATIONS, GATES, Activated
from counterpoint.models.multiply import GroupedMultiply
from counterpoint.models.seams import StackedExperts


@final
class Experts(StackedExperts):
    """Expert i maps its rows to down_i(activation(up_i(x))), with a gate to down_i(activation(gate_i(x)) * up_i(x)).

    The number of experts and their width follow from the shapes of the weights.
    """

    width_dims: ClassVar = {"gate": 1, "up": 1, "down": 2}

    def __init__(self, experts: int, hidden: int, ffn: int, activation: Activation) -> None:
        super().__init__()
        self.gate: nn.Parameter | None
        self.register_parameter(
            "gate", nn.Parameter(torch.empty(experts, ffn, hidden)) if activation in GATES else None
        )
        self.up = nn.Parameter(torch.empty(experts, ffn, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, ffn))
        self.multiply: nn.Module = GroupedMultiply()
        self.activation = Activated({**ACTIVATIONS, **GATES}[activation])

    def forward(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Rows (rows, hidden) sorted by expert -> outputs (rows, hidden); counts int64 (experts,) per expert."""
        if self.gate is None:
            inner = self.activation(self.multiply(rows, self.up, counts))
        else:
            inner = self.activation(self.multiply(rows, self.gate, counts), self.multiply(rows, self.up, counts))
        out: Tensor = self.multiply(inner, self.down, counts)
        return out
