"""A stage at run time: its chain of parts, and the microbatches that are in flight through it."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from counterpoint.plan.graph import Node

StageBatch = Any
"""What a chain reads beside rows. A stage only calls its `with_inserts(inserts, deep)`, where edges end: it returns the
same batch whose first part also adds these features, ((features (n, hidden), local rows int64 (n,)), ...), and whose
layer i adds those of `deep[i]`."""

StageModule = Callable[[torch.Tensor | None, StageBatch], Mapping[str, torch.Tensor]]
"""A chain: maps local rows (rows, hidden), None at a first stage, and a batch to its outputs by port, results included;
the output of the last part, rows or the loss, has the empty name."""

ROWS = ""
"""The port of the last part's output."""


class WeightWork(Protocol):
    """Weight gradients that the input half of a backward deferred."""

    def run(self) -> None:
        """Add them to the stage's gradients."""


class WeightQueue(Protocol):
    """Defers the weight gradients of a chain's backward while it is collecting."""

    def collecting(self) -> AbstractContextManager[None]:
        """The context of an input half."""

    def take(self) -> WeightWork:
        """The work deferred since the last call."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Rows that reached a stage for a microbatch: those of a hop, where `index` is None, or features.

    Features are added at the local rows `index`, int64, after layer `into`, or before all layers if it is negative.
    `needs_gradient` says whether their source needs their gradient.
    """

    rows: torch.Tensor
    needs_gradient: bool
    index: torch.Tensor | None = None
    into: int = -1


@dataclass(slots=True)
class _Flight:
    leaves: tuple[torch.Tensor, ...]
    outputs: Mapping[str, torch.Tensor]


class Stage:
    """Runs one node's chain; keeps what backward needs per microbatch in flight.

    `weights` is given if a schedule computes weight gradients apart. Outputs at the ports of `results` are kept here
    for the step.
    """

    def __init__(
        self,
        node: Node,
        module: StageModule,
        is_loss: bool,
        counts_loss: bool,
        weights: WeightQueue | None = None,
        results: Collection[str] = (),
    ) -> None:
        self.node, self.is_loss, self.counts_loss = node, is_loss, counts_loss
        self._module, self._weights = module, weights
        self._results: dict[str, dict[int, torch.Tensor]] = {port: {} for port in results}
        self._flights: dict[int, _Flight] = {}
        self._left: dict[int, WeightWork] = {}
        self.loss: torch.Tensor | None = None

    def begin(self) -> None:
        """Forget the last step; nothing may be in flight."""
        assert not self._flights, "a step ends with nothing in flight"
        assert not self._left, "a step ends with all weight gradients computed"
        self.loss = None
        for of_microbatches in self._results.values():
            of_microbatches.clear()

    def results(self, port: str) -> list[torch.Tensor]:
        """The step's outputs at a port of results, in the order of the microbatches."""
        found = self._results.get(port, {})
        return [found[microbatch] for microbatch in sorted(found)]

    def forward(
        self, microbatch: int, batch: StageBatch, arrivals: tuple[Arrival, ...], keep: bool
    ) -> Mapping[str, torch.Tensor]:
        """Run forward and return the detached rows by port, without loss and results; `keep` holds the graph."""
        leaves = tuple(arrival.rows.requires_grad_(keep) for arrival in arrivals if arrival.needs_gradient)
        rows = next((arrival.rows for arrival in arrivals if arrival.index is None), None)
        with torch.set_grad_enabled(keep):
            outputs = self._module(rows, _with_features(batch, arrivals))
        if keep:
            self._flights[microbatch] = _Flight(leaves, outputs)
        if self.is_loss:
            self._count(outputs[ROWS].detach())
        given = {port: output.detach() for port, output in outputs.items() if not (self.is_loss and port == ROWS)}
        for port in given.keys() & self._results.keys():
            self._results[port][microbatch] = given.pop(port)
        return given

    def output_rows(self, microbatch: int, port: str) -> int:
        """Number of local rows that the stage returned in a microbatch in flight."""
        return self._flights[microbatch].outputs[port].shape[0]

    def backward(
        self, microbatch: int, gradients: Mapping[str, torch.Tensor], is_split: bool
    ) -> tuple[torch.Tensor, ...]:
        """Run backward from the gradients of the outputs by port; returns the gradients of arrivals that need one.

        The loss needs no gradient. With `is_split` weight gradients are deferred to `weight_gradients`.
        """
        flight = self._flights.pop(microbatch)
        ports = [ROWS] if self.is_loss else []
        # An output of no trained parameter needs no gradient, though one was sent for the stage's other rows.
        ports += [port for port in gradients if flight.outputs[port].requires_grad]
        if ports:
            outputs = [flight.outputs[port] for port in ports]
            self._run_backward(microbatch, outputs, [gradients.get(port) for port in ports], is_split)
        return tuple(_gradient(leaf) for leaf in flight.leaves)

    def weight_gradients(self, microbatch: int) -> None:
        """The other half of a split backward."""
        self._left.pop(microbatch).run()

    def _run_backward(
        self,
        microbatch: int,
        outputs: list[torch.Tensor],
        gradients: list[torch.Tensor | None],
        is_split: bool,
    ) -> None:
        if not is_split:
            torch.autograd.backward(outputs, gradients)
            return
        assert self._weights is not None, "a stage of a schedule that splits has a queue"
        with self._weights.collecting():
            torch.autograd.backward(outputs, gradients)
        self._left[microbatch] = self._weights.take()

    def _count(self, loss: torch.Tensor) -> None:
        if self.counts_loss:
            self.loss = loss if self.loss is None else self.loss + loss


def _with_features(batch: StageBatch, arrivals: tuple[Arrival, ...]) -> StageBatch:
    features = [(a.into, (a.rows, a.index)) for a in arrivals if a.index is not None]
    if not features:
        return batch
    deep: dict[int, tuple[Any, ...]] = {}
    for into, insert in features:
        if into >= 0:
            deep[into] = (*deep.get(into, ()), insert)
    return batch.with_inserts(tuple(insert for into, insert in features if into < 0), deep)


def _gradient(leaf: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
