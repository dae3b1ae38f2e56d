"""The clock: plays a plan's events with the costs of its computes and reports which rank worked when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from counterpoint.check.buffers import peaks
from counterpoint.check.events import Programs, expand
from counterpoint.check.machine import Cost, Durations, Interval, Machine, no_durations
from counterpoint.errors import ProofError
from counterpoint.garbage import rare
from counterpoint.plan.action import Compute, Direction, Work
from counterpoint.plan.batch import BatchPlan, Share
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import PartWork, works_of
from counterpoint.simulate.play import play_roles

LETTERS = "abcdefghijklmnopqrstuvwxyz"
"""One letter per node in a drawing: small for forward, capital for backward."""
IDLE = "."
WEIGHTS = "+"
"""The letter of weight gradients computed apart, of any node."""


def flop_costs(plan: Plan, batch: BatchPlan) -> Cost:
    """FLOPs of a microbatch's costliest lane, divided by the ranks that share it."""
    works = works_of(plan)
    costs = {
        (node, microbatch): max((_lane_flops(plan, works[node.module], node, share) for share in lanes), key=sum)
        for node in plan.stages.nodes
        for microbatch, lanes in enumerate(batch.shares[node.module])
    }

    def cost(_rank: int, action: Compute) -> float:
        return action.work.of(*costs[action.node, action.microbatch])

    return cost


def unit_costs(plan: Plan) -> Cost:
    """A stage's forward takes 1, each half of its backward 1 as well, chunks their part and groups their multiple."""

    def cost(_rank: int, action: Compute) -> float:
        return plan.stages.cost(action)

    return cost


def _lane_flops(plan: Plan, works: Sequence[PartWork], node: Node, share: Share) -> tuple[float, float, float]:
    """FLOPs of a stage on one rank of a lane: forward, gradients of inputs and gradients of weights."""
    facts, size = plan.facts[node.module], plan.layouts[node.module].lane_size
    parts = works[slice(*plan.splits[node.module][node.stage])]
    load = facts.load(span.rows_in for span in share.spans)
    return (
        sum(part.forward(load) for part in parts) / size,
        sum(part.input_gradients(load) for part in parts) / size,
        sum(part.weight_gradients(load) for part in parts) / size,
    )


EXACT_RANKS = 64
"""Ranks up to which costs that may differ from lane to lane are played rank by rank."""


@dataclass(frozen=True)
class Timeline:
    """Which rank worked when, in the unit of the costs; `by_role` has one rank for all that do the same, `ranks` which.

    `in_flight` is the peak number of microbatches that a node keeps for backward, `receives` the peak number of
    receives that a rank has posted ahead on a link. If it `is_bound`, ranks that differ were played as one role, at the
    cost of the heaviest of them: none ends later than it says.
    """

    by_role: Mapping[int, tuple[Interval, ...]]
    ranks: Mapping[int, tuple[int, ...]]
    makespan: float
    in_flight: Mapping[Node, int]
    receives: Mapping[tuple[Link, Direction], int]
    is_bound: bool = False

    @cached_property
    def intervals(self) -> Mapping[int, tuple[Interval, ...]]:
        """The computes of every rank."""
        return {rank: self.by_role[role] for rank, role in sorted(self._role_of.items())}

    @cached_property
    def _role_of(self) -> Mapping[int, int]:
        return {rank: role for role, ranks in self.ranks.items() for rank in ranks}

    def busy(self, rank: int) -> float:
        """The time that a rank works."""
        return sum(interval.end - interval.start for interval in self.by_role[self._role_of[rank]])

    def bubble(self, rank: int) -> float:
        """The fraction of the makespan in which a rank is idle."""
        return 1.0 - self.busy(rank) / self.makespan if self.makespan else 0.0

    @property
    def bubble_fraction(self) -> float:
        """The fraction of all ranks' time in which they are idle."""
        idle = sum(self.bubble(role) * len(ranks) for role, ranks in self.ranks.items())
        return idle / max(len(self._role_of), 1)

    def draw(self, width: int) -> str:
        """An ASCII Gantt chart, one line per rank over `width` columns of time, and a legend of the nodes."""
        nodes = sorted({interval.action.node for row in self.by_role.values() for interval in row})
        letters = {node: LETTERS[number % len(LETTERS)] for number, node in enumerate(nodes)}
        label = max((len(f"rank {rank}") for rank in self.intervals), default=0)
        lines = [
            f"{f'rank {rank}':<{label}} |{self._row(rank, letters, width)}| {self.bubble(rank):4.0%} idle"
            for rank in sorted(self.intervals)
        ]
        legend = ", ".join(f"{letter} {node}" for node, letter in letters.items())
        has_weights = any(each.action.work is Work.WEIGHT for row in self.by_role.values() for each in row)
        weights = f", {WEIGHTS} weight gradients" if has_weights else ""
        return "\n".join([*lines, f"{legend}; small forward, capital backward{weights}, {IDLE} idle"])

    def _row(self, rank: int, letters: Mapping[Node, str], width: int) -> str:
        """Every column shows what the rank does in the middle of its slice of time."""
        slots = [IDLE] * width
        for interval in self.intervals[rank]:
            letter = letters[interval.action.node]
            drawn = {Work.FORWARD: letter, Work.WEIGHT: WEIGHTS}.get(interval.action.work, letter.upper())
            first, last = self._column(interval.start, width), self._column(interval.end, width)
            slots[first:last] = drawn * (last - first)
        return "".join(slots)

    def _column(self, time: float, width: int) -> int:
        """The first column whose middle is not before `time`."""
        return min(width, max(0, -int(-(time / self.makespan * width - 0.5) // 1))) if self.makespan else 0


@rare()
def simulate(
    plan: Plan, batch: BatchPlan | None = None, costs: Cost | None = None, durations: Durations | None = None
) -> Timeline:
    """Play the training schedule, with a batch what remains of it; raises ProofError if it does not end.

    Without `costs` computes take those of `unit_costs`, without `durations` posts take no time of their own. What runs
    ahead is assumed to be for a step like this one.
    """
    schedule = plan.schedule if batch is None else plan.of_step(plan.schedule, batch, batch)
    return simulate_programs(plan, schedule.programs, batch, costs, durations)


@rare()
def simulate_programs(
    plan: Plan,
    programs: Programs,
    batch: BatchPlan | None = None,
    costs: Cost | None = None,
    durations: Durations | None = None,
) -> Timeline:
    """Play any programs on a plan's placement; raises ProofError if they do not end.

    Ranks that do the same are played as one role, and lanes of different costs as the costliest of them; `durations`
    are asked of its lowest rank. Up to EXACT_RANKS each rank is played by itself, if anything may differ.
    """
    cost, lasting = costs or unit_costs(plan), durations or no_durations
    if len(programs) > EXACT_RANKS or (batch is None and costs is None and durations is None):
        played = play_roles(plan, programs, cost, lasting, batch, is_even=costs is None)
        machine, ranks, is_bound = played.machine, played.roles.by_role, not played.is_exact
    else:
        machine = Machine(expand(plan, programs, batch, batch), cost, lasting)
        ranks, is_bound = {rank: (rank,) for rank in programs}, False
    if machine.stuck:
        rank = min(machine.stuck)
        raise ProofError(
            f"rank {rank} at {machine.stuck[rank][0]} waits without end, expected programs that pass check_programs; "
            "call it for the cycle"
        )
    held = peaks(plan, programs)
    return Timeline(machine.intervals, ranks, machine.end, held.in_flight, held.receives, is_bound)
