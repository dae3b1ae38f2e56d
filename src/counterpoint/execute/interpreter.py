"""The interpreter: walks a rank's program and dispatches its actions through a table."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch

from counterpoint.execute.bridge import Bridge
from counterpoint.execute.stage import Arrival, Stage, StageBatch
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.stages import Stages

Observer = Callable[[Action], None]
"""Called before every action: the watchdog's and the timeline's view of the step."""


class Interpreter:
    """One rank's walk through programs; the only code that runs actions.

    `arrived` is called when the rows that a compute action reads are there, before it computes.
    """

    def __init__(
        self,
        graph: Stages,
        microbatches: int,
        stages: Mapping[Node, Stage],
        bridge: Bridge,
        reduce: Callable[[Node], None],
        begin_reduction: Callable[[Action], None],
        step: Callable[[], None],
        observers: tuple[Observer, ...],
    ) -> None:
        self._graph, self._microbatches, self._stages, self._bridge = graph, microbatches, stages, bridge
        self._reduce_node, self._take_step, self._observers = reduce, step, observers
        self._begin_reduction = begin_reduction
        self.arrived: Observer | None = None
        self._batches: Mapping[tuple[str, int], StageBatch] = {}
        self._live: frozenset[Action] = frozenset()
        self._rows: dict[Transfer, torch.Tensor] = {}
        self._number = 0
        self._later: dict[int, dict[Transfer, torch.Tensor]] = {}
        self._handlers: dict[type, Callable[..., None]] = {
            Compute: self._compute,
            Transfer: self._transfer,
            Reduce: self._reduce,
            Step: self._step,
        }

    def run(
        self, program: tuple[Action, ...], batches: Mapping[tuple[str, int], StageBatch], step: int | None = None
    ) -> None:
        """Run a program on the batches of its (module, microbatch) pairs; `step` is a training step's number.

        What it computes ahead is kept for the step that needs it.
        """
        self._batches, self._live = batches, frozenset(program)
        self._rows = {}
        if step is not None:
            self._number = step
            self._rows = self._later.pop(step, {})
        for stage in self._stages.values():
            stage.begin()
        for action in program:
            for observe in self._observers:
                observe(action)
            self._handlers[type(action)](action)
        self._rows = {}

    @property
    def steps_ahead(self) -> tuple[int, ...]:
        """The steps for which something was computed ahead and is kept."""
        return tuple(sorted(self._later))

    def _compute(self, action: Compute) -> None:
        match action.work:
            case Work.FORWARD:
                self._forward(action)
            case Work.BACKWARD | Work.INPUT:
                self._backward(action)
            case Work.WEIGHT:
                self._stages[action.node].weight_gradients(action.microbatch)

    def _forward(self, action: Compute) -> None:
        node, microbatch = action.node, action.microbatch
        batch = self._batches[node.module, microbatch]
        arrivals = tuple(self._arrival(transfer) for transfer in self._arrived(action))
        self._tell_arrived(action)
        outputs = self._stages[node].forward(microbatch, batch, arrivals, self._needs_backward(node, microbatch))
        for transfer in self._graph.gives(action, self._microbatches):
            if action.ahead and not transfer.ahead:
                later = self._later.setdefault(self._number + action.ahead, {})
                later[transfer] = outputs[transfer.link.port]
            elif transfer in self._live:
                self._rows[transfer] = outputs[transfer.link.port]

    def _tell_arrived(self, action: Compute) -> None:
        if self.arrived is not None:
            self.arrived(action)

    def _needs_backward(self, node: Node, microbatch: int) -> bool:
        return any(Compute(node, work, microbatch) in self._live for work in (Work.BACKWARD, Work.INPUT))

    def _arrival(self, transfer: Transfer) -> Arrival:
        link, received = transfer.link, self._bridge.collect(transfer)
        needs_gradient = replace(transfer, direction=Direction.BACKWARD) in self._live
        if link.is_hop:
            return Arrival(received, needs_gradient)
        return Arrival(received, needs_gradient, self._bridge.index(link, transfer.exchange), link.into)

    def _arrived(self, action: Compute) -> Iterator[Transfer]:
        """The transfers that bring what an action reads in this step, in the order of the graph."""
        return (t for t in self._graph.reads(action, self._microbatches) if t in self._live)

    def _backward(self, action: Compute) -> None:
        node, microbatch = action.node, action.microbatch
        stage = self._stages[node]
        gradients: dict[str, torch.Tensor] = {}
        for transfer in self._arrived(action):
            port = transfer.link.port
            placed = self._bridge.placed(transfer, stage.output_rows(microbatch, port))
            gradients[port] = gradients[port] + placed if port in gradients else placed
        self._tell_arrived(action)
        is_split = Compute(node, Work.WEIGHT, microbatch) in self._live
        self._begin_reduction(action)
        found = stage.backward(microbatch, gradients, is_split)
        given = (t for t in self._graph.gives(action, self._microbatches) if t in self._live)
        self._rows.update(zip(given, found, strict=True))

    def _transfer(self, action: Transfer) -> None:
        self._bridge.post(action, self._rows.pop(action, None))

    def _reduce(self, action: Reduce) -> None:
        self._reduce_node(action.node)

    def _step(self, _action: Step) -> None:
        self._bridge.finish()
        self._take_step()
