"""The list scheduler: puts a step's actions into one global order on a clock of unit costs, by a policy.

A seat is the ranks at one place of a module's pipeline, with all their chunks. It runs the forwards of its microbatches
in one order and the backwards in another; among actions that are ready the most urgent goes first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from math import ceil

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.stages import Stages


class Urgency(IntEnum):
    """Priority among actions that are ready on a rank: the lowest goes first."""

    BEFORE_ALL = 0
    PIPELINE = 1
    BACKWARD = 2
    FORWARD = 3
    GAP = 4
    WEIGHT = 5
    AHEAD = 6


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules in which schedules differ.

    `bound(stages, node, microbatches)` is the most microbatches of a node that may await their gradients, `seat_bound`
    the most over all chunks of its seat, None for no bound. `splits` computes weight gradients apart; then `keep_bound`
    is the most microbatches of a seat that may lack theirs.
    """

    bound: Callable[[Stages, Node, int], int]
    seat_bound: Callable[[Stages, Node, int], int | None] = field(default=lambda _stages, _node, _microbatches: None)
    keep_bound: Callable[[Stages, Node, int], int | None] = field(default=lambda _stages, _node, _microbatches: None)
    splits: bool = False
    backward_after_all_forwards: bool = False
    trains: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """A step's actions in one global order, and the most microbatches that each node keeps in it."""

    actions: tuple[Action, ...]
    bounds: Mapping[Node, int]


def list_schedule(stages: Stages, microbatches: int, policy: Policy) -> Order:
    """Order a step's actions; ends for any graph, because a forward that only a bound holds back is let through."""
    return _ListScheduler(stages, microbatches, policy).order()


@dataclass(slots=True)
class _Queue:
    """One kind of work of a seat, in its order; the head is at `next`.

    Ranks with the same nodes are busy at the same times; `ranks` has one for all of them.
    """

    ranks: tuple[int, ...]
    items: list[Compute]
    next: int = 0

    @property
    def head(self) -> Compute | None:
        return self.items[self.next] if self.next < len(self.items) else None


class _ListScheduler:
    def __init__(self, stages: Stages, microbatches: int, policy: Policy) -> None:
        self._stages, self._microbatches, self._policy = stages, microbatches, policy
        self._finish: dict[tuple[Node, str, int], int] = {}
        self._free = {ranks[0]: 0 for ranks in stages.by_nodes.values()}
        self._left = {node: self._count(node) for node in stages.nodes}
        self._held = dict.fromkeys(stages.nodes, 0)
        self._open = dict.fromkeys(stages.nodes, 0)
        self._peak = dict.fromkeys(stages.nodes, 0)
        self._started: dict[tuple[Node, str], int] = {}
        self._order: list[Action] = []
        self._queues = [queue for seat in _seats(stages) for queue in self._seat_queues(seat)]
        self._bounds = {node: policy.bound(stages, node, microbatches) for node in stages.nodes}
        self._seat_of = {node: seat for seat in _seats(stages) for node in seat}
        self._seat_bounds = {node: policy.seat_bound(stages, node, microbatches) for node in stages.nodes}
        self._keep_bounds = {node: policy.keep_bound(stages, node, microbatches) for node in stages.nodes}

    def order(self) -> Order:
        if self._policy.trains:
            self._order += self._from_before()
        now, remaining = 0, sum(len(queue.items) for queue in self._queues)
        while remaining:
            started = self._start_ready(now, within_bounds=True)
            if not started and not any(end > now for end in self._free.values()):
                started = self._start_ready(now, within_bounds=False)
                assert started, "a graph without cycles always has a ready node"
            remaining -= started
            now = min((end for end in self._free.values() if end > now), default=now)
        self._order.append(Step())
        return Order(tuple(self._order), {node: max(peak, 1) for node, peak in self._peak.items()})

    def _start_ready(self, now: int, within_bounds: bool) -> int:
        """Start what is ready, the most urgent first; without bounds only one, the most urgent forward."""
        heads = [(self._urgency(head), queue) for queue in self._queues if (head := queue.head) is not None]
        started = 0
        for _urgency, queue in sorted(heads, key=lambda pair: pair[0]):
            head = queue.head
            assert head is not None, "a queue's head changes only when it starts"
            if all(self._free[rank] > now for rank in queue.ranks) or not self._is_ready(head, now):
                continue
            if within_bounds and head.work is Work.FORWARD and not self._has_room(head.node):
                continue
            self._start(head, queue, now)
            started += 1
            if not within_bounds:
                break
        return started

    def _start(self, action: Compute, queue: _Queue, now: int) -> None:
        queue.next += 1
        cost = self._stages.units(action)
        # Busy ranks run it next, so that a node over many ranks need not wait until all are free at once.
        self._free.update({rank: max(now, self._free[rank]) + cost for rank in queue.ranks})
        end = max(self._free[rank] for rank in queue.ranks)
        self._finish[action.node, _result(action.work), action.microbatch] = end
        self._order.append(action)
        # A reduction right after a backward happens inside it, so the transfers of the backward come after both.
        self._note(action)
        self._order += [t for t in self._stages.gives(action, self._microbatches) if t.ahead == action.ahead]

    def _note(self, action: Compute) -> None:
        """Keep count of what nodes hold, and reduce a node's gradients after its last backward."""
        node, work = action.node, action.work
        self._started[node, _result(work)] = self._started.get((node, _result(work)), 0) + 1
        if work is Work.FORWARD:
            self._held[node] += 1
            self._open[node] += 1
            if not self._keeps(node):
                self._held[node] = self._started[node, "F"] - self._consumed(node)
            for link in self._stages.incoming(node):
                if not self._keeps(link.source):
                    self._held[link.source] = self._started.get((link.source, "F"), 0) - self._consumed(link.source)
            self._peak[node] = max(self._peak[node], self._held[node])
            return
        if work is not Work.WEIGHT:
            self._open[node] -= 1
        splits = self._policy.splits and self._stages.trains(node)
        if work is Work.WEIGHT or not splits:
            self._held[node] -= 1
            self._left[node] -= 1
            if not self._left[node] and self._stages.trains(node):
                self._order.append(Reduce(node))

    def _consumed(self, node: Node) -> int:
        """Microbatches, not kept for backward, of a node whose rows all consumers have begun to read."""
        stages, counts = self._stages, []
        for link in stages.outgoing(node):
            done = self._started.get((link.target, "F"), 0)
            covered = done * stages.group(link.target.module) // stages.group(node.module)
            is_last = done == stages.count(link.target.module, self._microbatches)
            counts.append(self._count(node) if is_last else covered)
        return min(counts, default=self._started.get((node, "F"), 0))

    def _keeps(self, node: Node) -> bool:
        return self._policy.trains and self._stages.has_backward(node)

    def _has_room(self, node: Node) -> bool:
        if self._ahead(node):
            return True
        if not self._keeps(node) and not self._stages.outgoing(node):
            return True
        seat, seat_bound, keep_bound = self._seat_of[node], self._seat_bounds[node], self._keep_bounds[node]
        if keep_bound is not None and sum(self._held[other] for other in seat) >= keep_bound:
            return False
        if seat_bound is not None:
            return sum(map(self._waiting, seat)) < seat_bound
        return self._waiting(node) < self._bounds[node]

    def _waiting(self, node: Node) -> int:
        """Microbatches that await their gradients or, without a backward, the forwards that read their rows."""
        return (self._open if self._keeps(node) else self._held)[node]

    def _is_ready(self, action: Compute, now: int) -> bool:
        stages, node, microbatch = self._stages, action.node, action.microbatch
        match action.work:
            case Work.FORWARD:
                return all(
                    self._is_done(link.source, "F", stages.source_microbatch(link, exchange), now)
                    for link in stages.incoming(node)
                    if not self._ahead(link.source) or action.ahead
                    for exchange in stages.into(link, microbatch, self._microbatches)
                )
            case Work.WEIGHT:
                return self._is_done(node, "G", microbatch, now)
            case _:
                last = self._count(node) - 1 if self._policy.backward_after_all_forwards else microbatch
                return self._is_done(node, "F", last, now) and all(
                    self._is_done(link.target, "G", stages.target_microbatch(link, exchange), now)
                    for link in stages.outgoing(node)
                    for exchange in stages.out_of(link, microbatch, self._microbatches)
                )

    def _is_done(self, node: Node, result: str, microbatch: int, now: int) -> bool:
        return self._finish.get((node, result, microbatch), now + 1) <= now

    def _urgency(self, action: Compute) -> tuple[Urgency, int, Node]:
        node = action.node
        return self._class(action), self._stages.depth(node), node

    def _class(self, action: Compute) -> Urgency:
        if action.ahead:
            return Urgency.AHEAD
        if action.work is Work.WEIGHT:
            return Urgency.WEIGHT
        is_forward = action.work is Work.FORWARD
        is_full = self._policy.splits or self._seat_bounds[action.node] is not None
        if is_forward and is_full and action.node.module in self._stages.sinks:
            # The pipeline stays as full as its bound lets it: one forward, then one backward.
            return Urgency.PIPELINE
        if action.node.module in self._stages.sinks or self._stages.encoder == "just_in_time":
            return Urgency.FORWARD if is_forward else Urgency.BACKWARD
        if self._stages.encoder == "first" and is_forward:
            return Urgency.BEFORE_ALL
        return Urgency.GAP

    def _count(self, node: Node) -> int:
        return self._stages.count(node.module, self._microbatches)

    def _ahead(self, node: Node) -> int:
        return self._stages.steps_ahead(node) if self._policy.trains else 0

    def _from_before(self) -> list[Transfer]:
        """Transfers of what an earlier step computed; they come first in the step."""
        stages = self._stages
        links = [k for k in stages.links if self._ahead(k.source) and not self._ahead(k.target)]
        cells = [(exchange, link) for link in links for exchange in range(stages.exchanges(link, self._microbatches))]
        return [Transfer(link, Direction.FORWARD, exchange) for exchange, link in sorted(cells)]

    def _seat_queues(self, seat: tuple[Node, ...]) -> list[_Queue]:
        """Forwards, backwards and weight gradients of the chunks of a seat, each in their order."""
        stages, pipeline = self._stages, places(self._stages, seat[0].module)
        cells = [(node, m) for node in seat for m in range(self._count(node))]

        def rounds(cell: tuple[Node, int]) -> tuple[int, int, int]:
            node, microbatch = cell
            return microbatch // pipeline, node.stage // pipeline, microbatch

        def rounds_back(cell: tuple[Node, int]) -> tuple[int, int, int]:
            node, microbatch = cell
            return microbatch // pipeline, -(node.stage // pipeline), microbatch

        forwards = [Compute(n, Work.FORWARD, m, self._ahead(n)) for n, m in sorted(cells, key=rounds)]
        kept = [(n, m) for n, m in sorted(cells, key=rounds_back) if self._keeps(n)]
        whole = Work.INPUT if self._policy.splits else Work.BACKWARD
        backwards = [Compute(n, whole, m) for n, m in kept]
        weights = [Compute(n, Work.WEIGHT, m) for n, m in kept if self._policy.splits and stages.trains(n)]
        ranks = tuple(all_of[0] for nodes, all_of in stages.by_nodes.items() if seat[0] in nodes)
        return [_Queue(ranks, items) for items in (forwards, backwards, weights) if items]


def _result(work: Work) -> str:
    """What an action makes: activations (F), gradients of inputs (G; in an undivided backward of weights too), or
    gradients of weights alone (W)."""
    return {Work.FORWARD: "F", Work.BACKWARD: "G", Work.INPUT: "G", Work.WEIGHT: "W"}[work]


def places(stages: Stages, module: str) -> int:
    """Number of places in a module's pipeline."""
    return ceil(sum(node.module == module for node in stages.nodes) / stages.chunks.get(module, 1))


def _seats(stages: Stages) -> list[tuple[Node, ...]]:
    """The nodes that share the ranks of a place in their module's pipeline."""
    seats: dict[tuple[str, int], tuple[Node, ...]] = {}
    for node in stages.nodes:
        key = (node.module, node.stage % places(stages, node.module))
        seats[key] = (*seats.get(key, ()), node)
    return list(seats.values())
