"""Ranks that are threads: each has its own bridge, stages and interpreter, and runs its programs on toy modules."""

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from counterpoint.execute.bridge import Bridge, MapKey
from counterpoint.execute.interpreter import Interpreter, Observer
from counterpoint.execute.rowmap import RowMap
from counterpoint.execute.stage import Stage
from counterpoint.plan.action import Action
from counterpoint.plan.batch import BatchPlan, ModuleRows
from counterpoint.plan.graph import Node
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import TrainedPart
from tests.asked import asked
from tests.unit.execute.mailroom import Mailroom
from tests.unit.execute.toys import Gradients, Rows, Toy, gradients, lane_factors, lane_learned, lane_rows
from tests.unit.plan.strategies import LANGUAGE, plan_of

CPU = torch.device("cpu")

Found = TypeVar("Found")


class Rank:
    """One rank; `steps` are each step's loss of its rows and gradients, `log` what the interpreter called it for."""

    def __init__(self, plan: Plan, rank: int, room: Mailroom, *observers: Observer) -> None:
        self.plan, self.rank = plan, rank
        self.toys = {node: Toy(plan, node) for node in plan.nodes_of(rank)}
        self.stages = {node: Stage(node, toy, toy.is_loss, toy.is_loss, toy.queue) for node, toy in self.toys.items()}
        self.bridge = Bridge(rank, plan, room.channels(plan, rank), CPU, torch.float64)
        self.interpreter = Interpreter(
            plan.stages, plan.microbatches, self.stages, self.bridge, self._reduce, self._begin_reduction, self._step,
            (self._observe, *observers),
        )  # fmt: skip
        self.steps: list[tuple[float, Gradients]] = []
        self.log: list[tuple[str, object]] = []
        self._batches: dict[tuple[str, int], Rows] = {}
        self._maps: dict[MapKey, RowMap] = {}

    def train(self, batches: Sequence[BatchPlan], between: Callable[[], object] = lambda: None) -> None:
        """All steps, and after each what goes `between` them; modules that run ahead begin before the first."""
        ahead, modules = max(self.plan.stages.ahead.values(), default=0), self.plan.stages.ahead.keys()
        for step in range(-ahead, len(batches)):
            now, later = (batches[s] if 0 <= s < len(batches) else None for s in (step, step + ahead))
            self.take(now, set(self.plan.graph.modules) - modules)
            self.take(later if ahead else None, modules)
            program = self.plan.program(self.plan.schedule, self.rank, now, later if ahead else None)
            self.run(program if step >= 0 else program[:-1], step)
            between()

    def evaluate(self, batch: BatchPlan) -> float:
        """The loss of this rank's rows."""
        self.take(batch, self.plan.graph.modules)
        self.run(self.plan.program(self.plan.evaluation, self.rank, batch)[:-1])
        return self.loss

    def run(self, program: tuple[Action, ...], step: int | None = None) -> None:
        """Run a program on what was taken since the last one."""
        self.bridge.begin(self._maps)
        self.interpreter.run(program, self._batches, step)
        self.bridge.finish()
        self._batches, self._maps = {}, {}

    def take(self, batch: BatchPlan | None, modules: Collection[str]) -> None:
        """Lay out what these modules read of a batch, and where the rows that reach them belong."""
        if batch is None:
            return
        for module in set(self.plan.placement.modules_of(self.rank)).intersection(modules):
            for number in range(len(batch.shares[module])):
                self._batches[module, number] = self._rows(batch, module, number)
        maps = row_maps(self.plan, batch, self.rank)
        self._maps |= {key: rows for key, rows in maps.items() if key[0].target.module in modules}

    @property
    def loss(self) -> float:
        """The loss of the last program."""
        return sum(stage.loss.item() for stage in self.stages.values() if stage.loss is not None)

    def _rows(self, batch: BatchPlan, module: str, microbatch: int) -> Rows:
        layout = self.plan.layouts[module]
        coordinate = layout.coordinate(self.rank)
        share = batch.shares[module][microbatch][coordinate.dp]
        shard = coordinate.cp * layout.tp + coordinate.tp
        entering = lane_rows(self.plan, batch, module, share)
        counting = lane_factors(self.plan, batch, share) if module == self.plan.sink else torch.empty(0)
        lanes = (entering, counting, lane_learned(self.plan, module, share))
        rows, factors, learned = (lane.tensor_split(layout.lane_size)[shard] for lane in lanes)
        return Rows(rows, factors, learned)

    def _observe(self, action: Action) -> None:
        self.log.append(("sees", action))

    def _reduce(self, node: Node) -> None:
        self.log.append(("reduce", node))

    def _begin_reduction(self, action: Action) -> None:
        self.log.append(("begin", action))

    def _step(self) -> None:
        self.log.append(("step", None))
        self.steps.append((self.loss, gradients(self.toys)))
        for toy in self.toys.values():
            toy.weight.grad = None


def row_maps(plan: Plan, batch: BatchPlan, rank: int) -> dict[MapKey, RowMap]:
    """A rank's part of every exchange with rows."""
    maps = {}
    for link in plan.stages.links:
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            route = plan.route(batch, link, exchange)
            if route.copies:
                maps[link, exchange] = RowMap.build(route, rank)
    return maps


def on_threads(plan: Plan, part: Callable[[int, Mailroom], Found]) -> list[Found]:
    """What all ranks of a plan found, each on a thread of its own; raises what one of them raised."""
    room = Mailroom(len(plan.stages.world))

    def of(rank: int) -> Found:
        try:
            return part(rank, room)
        finally:
            room.leave()

    with ThreadPoolExecutor(room.players) as threads:
        parts = [threads.submit(of, rank) for rank in plan.stages.world]
    # A rank that waits in vain is not the first that went wrong.
    for error in sorted(filter(None, (one.exception() for one in parts)), key=lambda e: isinstance(e, LookupError)):
        raise error
    return [one.result() for one in parts]


def summed(found: Sequence[tuple[float, Gradients]]) -> tuple[float, Gradients]:
    """Losses and gradients of several ranks in one."""
    total: dict[Node, Tensor] = {}
    for _loss, of_rank in found:
        for node, gradient in of_rank.items():
            total[node] = total[node] + gradient if node in total else gradient
    return sum(loss for loss, _of_rank in found), total


def colocated(microbatches: int, is_vision_trained: bool = True, run_ahead: int = 0, group: int = 1) -> Plan:
    """A tower and a language model on one rank; the tower computes a `group` of microbatches at once."""
    requests = tuple(asked(module, ranks=(0,)) for module in ("vision", LANGUAGE))
    placement = place(1, requests)
    rows = {
        layout.module: ModuleRows(layout, group=1 if layout.module == LANGUAGE else group)
        for layout in placement.layouts
    }
    plan = plan_of(placement, rows, "gpipe", microbatches)
    parts = (TrainedPart.whole(1, is_trained=is_vision_trained),) * 2
    return replace(plan, trained={"vision": parts}, run_ahead=run_ahead, group=group)
