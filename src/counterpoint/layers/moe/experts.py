"""The experts of a mixture: many small MLPs whose weights are stacked."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from counterpoint.kinds.names import Activation
from counterpoint.models.mlp import ACTIVATIONS, GATES, Activated
from counterpoint.models.multiply import GroupedMultiply, groups_of
from counterpoint.models.seams import Fusible, ReadsStored, StackedExperts, as_stored


@final
class Experts(StackedExperts, ReadsStored, Fusible):
    """Expert i maps its rows to down_i(activation(up_i(x))), with a gate to down_i(activation(gate_i(x)) * up_i(x)).

    The number of experts and their width follow from the shapes of the weights.
    """

    regions = ("weighted",)
    width_dims: ClassVar = {"gate": 1, "up": 1, "down": 2}

    def __init__(self, experts: int, hidden: int, ffn: int, activation: Activation) -> None:
        super().__init__()
        self.gate: nn.Parameter | None
        self.register_parameter(
            "gate", nn.Parameter(torch.empty(experts, ffn, hidden)) if activation in GATES else None
        )
        self.up = nn.Parameter(torch.empty(experts, ffn, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, ffn))
        self.stored = as_stored
        self.multiply: nn.Module = GroupedMultiply()
        self.activation = Activated({**ACTIVATIONS, **GATES}[activation])

    def forward(self, rows: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Rows (rows, hidden) sorted by expert, their routing weights (rows,) and counts int64 (experts,) per expert ->
        weighted outputs (rows, hidden)."""
        groups = groups_of(counts, rows, self.up)
        up = self.multiply(rows, self.stored(self.up), groups)
        gate = None if self.gate is None else self.multiply(rows, self.stored(self.gate), groups)
        out: Tensor = self.multiply(self.weighted(up, gate, weights), self.stored(self.down), groups)
        return out

    def weighted(self, up: Tensor, gate: Tensor | None, weights: Tensor) -> Tensor:
        """Inner values (rows, ffn) times the routing weights: weighed before the last product, outputs need not be kept
        for the gradient of the weights."""
        inner: Tensor = self.activation(up, None, weights) if gate is None else self.activation(gate, up, weights)
        return inner
