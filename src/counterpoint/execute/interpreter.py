"""The interpreter: walks a rank's program and dispatches its actions through a table."""

from collections.abc import Callable, Mapping

import torch

from counterpoint.execute.bridge import Bridge
from counterpoint.execute.stage import Arrivals, Stage, StageBatch
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.schedule import Stages

Observer = Callable[[Action], None]
"""Called before every action: the watchdog's and the timeline's view of the step."""


class Interpreter:
    """One rank's walk through programs; the only code that runs actions."""

    def __init__(
        self,
        graph: Stages,
        stages: Mapping[Node, Stage],
        bridge: Bridge,
        reduce: Callable[[Node], None],
        step: Callable[[], None],
        observers: tuple[Observer, ...],
    ) -> None:
        self._graph, self._stages, self._bridge = graph, stages, bridge
        self._reduce_node, self._take_step, self._observers = reduce, step, observers
        self._batches: Mapping[tuple[str, int], StageBatch] = {}
        self._rows: dict[Transfer, torch.Tensor] = {}
        self._keep = True
        self._handlers: dict[type, Callable[..., None]] = {
            Compute: self._compute,
            Transfer: self._transfer,
            Reduce: self._reduce,
            Step: self._step,
        }

    def run(self, program: tuple[Action, ...], batches: Mapping[tuple[str, int], StageBatch], training: bool) -> None:
        """Run a program on the batches of its (module, microbatch) pairs; without `training` no graph is kept."""
        self._batches, self._keep = batches, training
        for stage in self._stages.values():
            stage.begin()
        with torch.set_grad_enabled(training):
            for action in program:
                for observe in self._observers:
                    observe(action)
                self._handlers[type(action)](action)

    def _compute(self, action: Compute) -> None:
        if action.direction is Direction.FORWARD:
            self._forward(action.node, action.microbatch)
        else:
            self._backward(action.node, action.microbatch)

    def _forward(self, node: Node, microbatch: int) -> None:
        batch = self._batches[node.module, microbatch]
        output = self._stages[node].forward(microbatch, batch, self._arrivals(node, microbatch), self._keep)
        if output is not None:
            for link in self._graph.outgoing(node):
                self._rows[Transfer(link, Direction.FORWARD, microbatch)] = output

    def _arrivals(self, node: Node, microbatch: int) -> Arrivals:
        rows, features = None, []
        for link in self._arrived(node, microbatch):
            received = self._bridge.collect(Transfer(link, Direction.FORWARD, microbatch))
            if link.is_hop:
                rows = received
            else:
                features.append((received, self._bridge.index(link, microbatch)))
        return Arrivals(rows, tuple(features))

    def _arrived(self, node: Node, microbatch: int) -> list[Link]:
        """Incoming links whose source had rows in this microbatch, in the order of the graph."""
        return [link for link in self._graph.incoming(node) if self._bridge.has(link, microbatch)]

    def _backward(self, node: Node, microbatch: int) -> None:
        stage = self._stages[node]
        gradient: torch.Tensor | None = None
        for link in self._graph.outgoing(node):
            placed = self._bridge.placed(Transfer(link, Direction.BACKWARD, microbatch), stage.output_rows(microbatch))
            gradient = placed if gradient is None else gradient + placed
        gradients = stage.backward(microbatch, gradient)
        for link, rows in zip(self._arrived(node, microbatch), gradients, strict=True):
            self._rows[Transfer(link, Direction.BACKWARD, microbatch)] = rows

    def _transfer(self, action: Transfer) -> None:
        self._bridge.post(action, self._rows.pop(action, None))

    def _reduce(self, action: Reduce) -> None:
        self._reduce_node(action.node)

    def _step(self, _action: Step) -> None:
        self._bridge.finish()
        self._take_step()
