"""A stage at run time: its chain of parts, and the microbatches that are in flight through it."""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from counterpoint.plan.graph import Node

StageBatch = Any
"""What a chain reads beside rows. A stage only asks it for `with_inserts(inserts, deep)`, where edges end: the same
batch whose first part also adds these features, ((features (n, hidden), local rows int64 (n,)), ...), and whose layer i
those of `deep[i]`."""

StageModule = Callable[[torch.Tensor | None, StageBatch], Mapping[str, torch.Tensor]]
"""A chain: local rows (None at a first stage) and a batch to its outputs by port, results among them; what leaves the
last part, rows or the loss, has the empty name."""

ROWS = ""
"""The port of what leaves a chain's last part."""


class WeightWork(Protocol):
    """Weight gradients that the input half of a backward left."""

    def run(self) -> None:
        """Add them to the stage's gradients."""


class WeightQueue(Protocol):
    """Where the backward of a chain leaves its weight gradients while it is collecting."""

    def collecting(self) -> AbstractContextManager[None]:
        """The context of an input half."""

    def take(self) -> WeightWork:
        """What was left since the last call."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Rows that reached a stage for a microbatch: those of a hop, where `index` is None, or features.

    Features belong to the local rows `index`, int64, behind layer `into`, or in front of all layers if it is negative.
    `needs_gradient` says whether their source wants their gradient.
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

    `weights` is there if a schedule computes weight gradients apart. What leaves by the ports of `results` stays here
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
        """What has left by a port of results in this step, in the order of the microbatches."""
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
        """Local rows that the stage gave out in a microbatch in flight."""
        return self._flights[microbatch].outputs[port].shape[0]

    def backward(
        self, microbatch: int, gradients: Mapping[str, torch.Tensor], is_split: bool
    ) -> tuple[torch.Tensor, ...]:
        """Run backward from the gradients of the outputs by port; returns those of what arrived and needs one.

        The loss needs none. With `is_split` weight gradients are left for `weight_gradients`.
        """
        flight = self._flights.pop(microbatch)
        ports = [ROWS] if self.is_loss else []
        # What no trained parameter went into needs no gradient, though one was sent for the stage's other rows.
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
