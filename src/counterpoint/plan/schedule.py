"""Schedules: pure functions from a graph of stages to the ordered actions of every rank.

A builder plays the step on a clock of unit costs. A node (one stage of one module) starts on all its ranks at once, so
every program is a subsequence of one global order; the checker does not rely on that, it proves the programs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from counterpoint.config.training import PLANNED_SCHEDULES, SCHEDULES
from counterpoint.errors import ConfigError
from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer
from counterpoint.plan.graph import Link, Node

FORWARD_COST, BACKWARD_COST = 1, 2
"""Unit costs on which builders order actions; backward computes two gradients."""


@dataclass(frozen=True)
class Stages:
    """What a schedule is built over: nodes in topological order with their ranks, and the links between them."""

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    ranks: dict[Node, tuple[int, ...]]

    def incoming(self, node: Node) -> tuple[Link, ...]:
        """Links that end in a node."""
        return self._incoming.get(node, ())

    def outgoing(self, node: Node) -> tuple[Link, ...]:
        """Links that start from a node."""
        return self._outgoing.get(node, ())

    def depth(self, node: Node) -> int:
        """Nodes on the longest path from `node` to a sink, both counted."""
        return self._depths[node]

    @property
    def world(self) -> tuple[int, ...]:
        """All ranks that have a node, ascending."""
        return tuple(sorted({rank for ranks in self.ranks.values() for rank in ranks}))

    @cached_property
    def _incoming(self) -> dict[Node, tuple[Link, ...]]:
        return _grouped(self.links, lambda link: link.target)

    @cached_property
    def _outgoing(self) -> dict[Node, tuple[Link, ...]]:
        return _grouped(self.links, lambda link: link.source)

    @cached_property
    def _depths(self) -> dict[Node, int]:
        depths: dict[Node, int] = {}
        for node in reversed(self.nodes):
            depths[node] = 1 + max((depths[link.target] for link in self.outgoing(node)), default=0)
        return depths


def _grouped(links: tuple[Link, ...], end: Callable[[Link], Node]) -> dict[Node, tuple[Link, ...]]:
    groups: dict[Node, tuple[Link, ...]] = {}
    for link in links:
        groups[end(link)] = (*groups.get(end(link), ()), link)
    return groups


@dataclass(frozen=True, slots=True)
class Schedule:
    """A template: the actions of one step in one global order, and each rank's program, a subsequence of it."""

    kind: str
    microbatches: int
    order: tuple[Action, ...]
    programs: dict[int, tuple[Action, ...]]

    def keep(self, keeps: Callable[[Action], bool]) -> "Schedule":
        """The schedule without the actions that `keeps` rejects: erasing matched events (design D3)."""
        programs = {rank: tuple(a for a in program if keeps(a)) for rank, program in self.programs.items()}
        return Schedule(self.kind, self.microbatches, tuple(a for a in self.order if keeps(a)), programs)


def action_ranks(action: Action, stages: Stages) -> tuple[int, ...]:
    """The ranks in whose programs an action stands."""
    match action:
        case Compute(node=node) | Reduce(node=node):
            return stages.ranks[node]
        case Transfer(link=link):
            return tuple(sorted({*stages.ranks[link.source], *stages.ranks[link.target]}))
        case Step():
            return stages.world


def distribute(kind: str, microbatches: int, order: tuple[Action, ...], stages: Stages) -> Schedule:
    """A schedule from a global order: every rank gets the actions that it takes part in, in that order."""
    programs: dict[int, list[Action]] = {rank: [] for rank in stages.world}
    for action in order:
        for rank in action_ranks(action, stages):
            programs[rank].append(action)
    return Schedule(kind, microbatches, order, {rank: tuple(program) for rank, program in programs.items()})


def gpipe(stages: Stages, microbatches: int) -> Schedule:
    """All forwards, then all backwards (Huang et al. 2019, arXiv:1811.06965)."""
    policy = _Policy(bound=dict.fromkeys(stages.nodes, microbatches), backward_after_all_forwards=True)
    return distribute("gpipe", microbatches, _play(stages, microbatches, policy), stages)


def one_forward_one_backward(stages: Stages, microbatches: int) -> Schedule:
    """1F1B (Narayanan et al. 2021, arXiv:2104.04473), a node's microbatches in flight bounded by its depth.

    On a chain of stages this is the usual schedule; the bound is what extends it to any graph and placement.
    """
    policy = _Policy(bound={node: stages.depth(node) for node in stages.nodes}, backward_after_all_forwards=False)
    return distribute("1f1b", microbatches, _play(stages, microbatches, policy), stages)


def forward_only(stages: Stages, microbatches: int) -> Schedule:
    """Evaluation: forwards only; a node runs ahead of its consumers by at most its depth."""
    policy = _Policy(bound={node: stages.depth(node) for node in stages.nodes}, backward=False)
    return distribute("forward", microbatches, _play(stages, microbatches, policy), stages)


Builder = Callable[[Stages, int], Schedule]
"""Makes a schedule of a number of microbatches, most easily with `distribute`."""

BUILDERS: dict[str, Builder] = {
    "gpipe": gpipe,
    "1f1b": one_forward_one_backward,
    "forward": forward_only,
}


def register_schedule(name: str, builder: Builder) -> None:
    """Let configs say `schedule.kind: name`; raises ConfigError for a name that is taken or is no name.

    Every process that plans must register it: call it where the script that trains is imported.
    """
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise ConfigError(
            f"register_schedule: got the name {name!r}, expected lowercase letters, digits and _; choose another"
        )
    if name in BUILDERS or name in PLANNED_SCHEDULES:
        taken = sorted({*BUILDERS, *PLANNED_SCHEDULES})
        raise ConfigError(
            f"register_schedule: got the name {name!r}, which is taken, expected none of {taken}; choose another"
        )
    BUILDERS[name] = builder
    SCHEDULES.append(name)


@dataclass(frozen=True, slots=True)
class _Policy:
    bound: dict[Node, int]
    backward_after_all_forwards: bool = False
    backward: bool = True


class _Clock:
    """The state of a step being played: what finished when, and until when each rank is busy."""

    def __init__(self, stages: Stages, microbatches: int, policy: _Policy) -> None:
        self.stages, self.microbatches, self.policy = stages, microbatches, policy
        self.incoming = {node: stages.incoming(node) for node in stages.nodes}
        self.outgoing = {node: stages.outgoing(node) for node in stages.nodes}
        self.depth = {node: stages.depth(node) for node in stages.nodes}
        self.started = {(node, way): 0 for node in stages.nodes for way in Direction}
        self.finish: dict[Compute, int] = {}
        self.free = dict.fromkeys(stages.world, 0)

    def finished(self, action: Compute, now: int) -> bool:
        return self.finish.get(action, now + 1) <= now

    def ready(self, node: Node, way: Direction, now: int) -> bool:
        microbatch = self.started[node, way]
        if microbatch == self.microbatches or any(self.free[rank] > now for rank in self.stages.ranks[node]):
            return False
        if way is Direction.FORWARD:
            if self.in_flight(node) >= self.policy.bound[node]:
                return False
            return all(self.finished(Compute(link.source, way, microbatch), now) for link in self.incoming[node])
        if self.policy.backward_after_all_forwards:
            needed = Compute(node, Direction.FORWARD, self.microbatches - 1)
        else:
            needed = Compute(node, Direction.FORWARD, microbatch)
        return self.finished(needed, now) and all(
            self.finished(Compute(link.target, way, microbatch), now) for link in self.outgoing[node]
        )

    def in_flight(self, node: Node) -> int:
        """Microbatches whose forward started and whose memory is not yet given back."""
        started = self.started[node, Direction.FORWARD]
        if self.policy.backward:
            return started - self.started[node, Direction.BACKWARD]
        consumed = [self.started[link.target, Direction.FORWARD] for link in self.outgoing[node]]
        return started - min(consumed, default=started)

    def start(self, node: Node, way: Direction, now: int) -> Compute:
        action = Compute(node, way, self.started[node, way])
        end = now + (FORWARD_COST if way is Direction.FORWARD else BACKWARD_COST)
        self.started[node, way] += 1
        self.finish[action] = end
        self.free.update(dict.fromkeys(self.stages.ranks[node], end))
        return action


def _play(stages: Stages, microbatches: int, policy: _Policy) -> tuple[Action, ...]:
    clock = _Clock(stages, microbatches, policy)
    ways = (Direction.BACKWARD, Direction.FORWARD) if policy.backward else (Direction.FORWARD,)
    # Backward first and nodes near the loss first: what frees memory goes before what takes it.
    candidates = [(node, way) for way in ways for node in sorted(stages.nodes, key=lambda n: (clock.depth[n], n))]
    order: list[Action] = []
    remaining = len(stages.nodes) * microbatches * len(ways)
    now = 0
    while remaining:
        for node, way in candidates:
            if clock.ready(node, way, now):
                order.extend(_with_transfers(clock, clock.start(node, way, now)))
                if way is Direction.BACKWARD and clock.started[node, way] == microbatches:
                    order.append(Reduce(node))
                remaining -= 1
        later = [end for end in clock.finish.values() if end > now]
        assert later or not remaining, "a graph without cycles always has a ready node"
        now = min(later, default=now)
    return (*order, Step())


def _with_transfers(clock: _Clock, action: Compute) -> list[Action]:
    """The action and the exchanges that hand on what it made."""
    forward = action.direction is Direction.FORWARD
    links = clock.outgoing[action.node] if forward else clock.incoming[action.node]
    return [action, *(Transfer(link, action.direction, action.microbatch) for link in links)]
