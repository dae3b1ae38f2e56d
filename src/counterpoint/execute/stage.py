"""A stage at run time: its chain of parts, and the microbatches that are in flight through it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from counterpoint.plan.graph import Node

StageBatch = Any
"""What a chain reads beside rows. A stage only asks it for `with_inserts(((features, local rows), ...))`, where an
edge ends: the same batch whose embedding also adds these feature rows (n, hidden) at local rows int64 (n,)."""

StageModule = Callable[[torch.Tensor | None, StageBatch], torch.Tensor]
"""A chain: local rows (None at a first stage) and a batch to local rows, or to the loss at the last stage."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What reached a stage for one microbatch: the rows of a hop, or features with the local rows where they belong."""

    rows: torch.Tensor | None
    features: tuple[tuple[torch.Tensor, torch.Tensor], ...]


@dataclass(slots=True)
class _Flight:
    leaves: tuple[torch.Tensor, ...]
    output: torch.Tensor


class Stage:
    """Runs one node's chain; keeps what backward needs per microbatch in flight."""

    def __init__(self, node: Node, module: StageModule, is_loss: bool, counts_loss: bool) -> None:
        self.node, self.is_loss, self.counts_loss = node, is_loss, counts_loss
        self._module = module
        self._flights: dict[int, _Flight] = {}
        self.loss: torch.Tensor | None = None

    def begin(self) -> None:
        """Forget the last step; nothing may be in flight."""
        assert not self._flights, "a step ends with nothing in flight"
        self.loss = None

    def forward(self, microbatch: int, batch: StageBatch, arrivals: Arrivals, keep: bool) -> torch.Tensor | None:
        """Run forward and return the detached local rows, or None at the loss; `keep` holds the graph for backward."""
        leaves = [arrivals.rows] if arrivals.rows is not None else [rows for rows, _index in arrivals.features]
        for leaf in leaves:
            leaf.requires_grad_(keep)
        if arrivals.features:
            batch = batch.with_inserts(arrivals.features)
        output = self._module(arrivals.rows, batch)
        if keep:
            self._flights[microbatch] = _Flight(tuple(leaves), output)
        if self.is_loss:
            self._count(output.detach())
            return None
        return output.detach()

    def output_rows(self, microbatch: int) -> int:
        """Local rows that the stage gave out in a microbatch in flight."""
        return self._flights[microbatch].output.shape[0]

    def backward(self, microbatch: int, gradient: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """Run backward from the gradient of the output (None at the loss); returns the gradients of what arrived."""
        flight = self._flights.pop(microbatch)
        torch.autograd.backward(flight.output, gradient)
        return tuple(_gradient(leaf) for leaf in flight.leaves)

    def _count(self, loss: torch.Tensor) -> None:
        if self.counts_loss:
            self.loss = loss if self.loss is None else self.loss + loss


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
