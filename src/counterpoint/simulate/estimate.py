"""The estimate of a plan on hardware: seconds of a step, what ranks do in them, and memory over time.

A step is estimated as it repeats: each rank begins with the update of the step before, and all ranks end together when
the norms are summed. A GPU works behind its host, which is as far ahead as the step before has left it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import final

from counterpoint.check.events import Events, Exchange
from counterpoint.check.machine import Interval, Machine, State
from counterpoint.costs.hardware import Hardware
from counterpoint.errors import ProofError
from counterpoint.garbage import rare
from counterpoint.plan.action import Compute
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan
from counterpoint.simulate.cast import EXACT_RANKS, Cast
from counterpoint.simulate.figures import StepFigures, mean_figures, step_figures
from counterpoint.simulate.held import memory_curves
from counterpoint.simulate.hosts import Hosts
from counterpoint.simulate.played import Breakdown, Sent, StepTimeline
from counterpoint.simulate.prices import Execution, Prices

_ROUNDS = 3
"""Times that a step is played where ranks share processors: each corrects how long others work meanwhile."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate(StepFigures):
    """What a plan's step takes on hardware, as the mean over batches; `timeline` is of the first batch."""

    hardware: str
    source: str
    timeline: StepTimeline
    rank_bytes: int
    """Memory of a rank of the hardware."""

    @property
    def fits(self) -> bool:
        """Whether the fullest rank has the memory that it needs."""
        return self.memory_bytes <= self.rank_bytes


@rare()
def estimate(
    plan: Plan, hardware: Hardware, batches: Sequence[BatchPlan], execution: Execution | None = None,
    exact_ranks: int = EXACT_RANKS,
) -> Estimate:  # fmt: skip
    """Play the steps of these batches, by roles in a world of more than `exact_ranks`.

    Raises ProofError for programs that do not end, InputError for hardware without figures of the plan's dtype, or of a
    network that it needs.
    """
    how = Execution() if execution is None else execution
    played = [play(plan, hardware, batch, how, exact_ranks) for batch in batches]
    pairs = zip(batches, played, strict=True)
    mean = mean_figures([step_figures(plan, hardware, batch, timeline) for batch, timeline in pairs])
    return Estimate(
        **{each.name: getattr(mean, each.name) for each in fields(StepFigures)},
        hardware=hardware.name,
        source=hardware.source,
        timeline=played[0],
        rank_bytes=hardware.memory_bytes,
    )


def play(
    plan: Plan, hardware: Hardware, batch: BatchPlan, execution: Execution, exact_ranks: int = EXACT_RANKS
) -> StepTimeline:
    """One step of a batch; what runs ahead is taken to be for a step like it.

    In a large world the lowest rank of each role is played, with the loads of its heaviest lane.
    """
    schedule = plan.of_step(plan.schedule, batch, batch)
    cast = Cast(plan, schedule.programs, batch, exact_ranks)
    prices = Prices(plan, hardware, batch, cast, execution)
    machine = _on_gpus(cast.events, prices) if hardware.device == "cuda" else _on_cpus(cast.events, prices, hardware)
    launching = 0.0 if hardware.device == "cpu" else max(map(prices.launching, cast.programs))
    seconds = max(machine.end, max(prices.begins.values()), launching)
    posts = {rank: _sent(machine.states[rank].values()) for rank in cast.programs}
    return StepTimeline(
        seconds=seconds,
        same=_same(machine, cast),
        computes=machine.intervals,
        posts=posts,
        updated=prices.begins,
        breakdowns={rank: _breakdown(rank, machine, posts[rank], prices, seconds) for rank in cast.programs},
        memory=memory_curves(plan, batch, cast.programs, machine.intervals),
        launching=launching,
        late={rank: _late(rank, machine, prices) for rank in cast.programs} if hardware.device == "cuda" else {},
        counts={rank: len(cast.ranks(rank)) for rank in cast.programs},
    )


def _same(machine: Machine, cast: Cast) -> tuple[tuple[int, ...], ...]:
    """Groups of ranks with the same computes at the same times, ordered by their first rank, which was played."""
    groups: dict[object, list[int]] = {}
    for rank in sorted(machine.intervals):
        groups.setdefault(machine.intervals[rank], []).extend(cast.ranks(rank))
    return tuple(tuple(sorted(ranks)) for ranks in groups.values())


def _on_gpus(events: Events, prices: Prices) -> Machine:
    """The machine after the last event; its hosts begin as far ahead as they are at the end of a step like it."""
    hosts = Hosts(prices.launches)
    first = _ended(Machine(events, prices.cost, prices.durations, prices.begins, hosts.end))
    again = hosts.next_step(first.end, prices.updating)
    return Machine(events, prices.cost, prices.durations, prices.begins, again.end)


def _on_cpus(events: Events, prices: Prices, hardware: Hardware) -> Machine:
    """The machine after the last event; where ranks share processors each works faster while others wait."""
    scales: dict[tuple[int, Compute], float] = {}

    def cost(rank: int, action: Compute) -> float:
        return prices.cost(rank, action) * scales.get((rank, action), 1.0)

    machine = _ended(Machine(events, cost, prices.durations, prices.begins))
    for _round in range(_ROUNDS if hardware.alone < 1.0 else 0):
        scales = _shared(machine, hardware)
        machine = Machine(events, cost, prices.durations, prices.begins)
    return machine


def _ended(machine: Machine) -> Machine:
    """The machine; raises ProofError if its ranks cannot go on."""
    if machine.stuck:
        rank, (action, _entry) = min(machine.stuck.items(), key=lambda item: item[0])
        raise ProofError(
            f"rank {rank} at {action} waits without end, expected programs that pass check_programs; call "
            "it for the cycle"
        )
    return machine


def _shared(machine: Machine, hardware: Hardware) -> dict[tuple[int, Compute], float]:
    """By compute, the share of its full cost that it takes with so much of it while others of its node work."""
    scales: dict[tuple[int, Compute], float] = {}
    nodes: dict[int, list[int]] = {}
    for rank in machine.intervals:
        nodes.setdefault(rank // hardware.ranks_per_node, []).append(rank)
    for ranks in nodes.values():
        for rank in ranks:
            others = [machine.intervals[other] for other in ranks if other != rank]
            for interval in machine.intervals[rank]:
                scales[rank, interval.action] = _scale(interval, others, hardware)
    return scales


def _scale(interval: Interval, others: Sequence[Sequence[Interval]], hardware: Hardware) -> float:
    """The share of its full cost that a compute takes beside other ranks: those at work share the processors, which are
    as many as `alone` says, and none works faster than alone."""
    working = [one for row in others for one in row if one.start < interval.end and one.end > interval.start]
    moments = sorted({interval.start, interval.end, *(m for one in working for m in (one.start, one.end))})
    inside = [moment for moment in moments if interval.start <= moment <= interval.end]
    done = 0.0
    for begin, end in pairwise(inside):
        count = 1 + sum(one.start <= begin and one.end >= end for one in working)
        done += (end - begin) / max(hardware.alone, count / hardware.ranks_per_node)
    return (interval.end - interval.start) / done if done else 1.0


def _sent(states: Iterable[State]) -> tuple[Sent, ...]:
    found = []
    for state in states:
        assert state.posted is not None, "the machine ended"
        assert state.completed is not None, "the machine ended"
        if not (isinstance(state.post, Exchange) and not state.post.peers):
            post = state.post
            found.append(Sent(post.action, post.communicator, state.posted, state.latest_start, state.completed))
    return tuple(found)


def _breakdown(
    rank: int, machine: Machine, posts: tuple[Sent, ...], prices: Prices, seconds: float
) -> Breakdown:  # fmt: skip
    computes: dict[str, float] = {}
    inside = 0.0
    now = update = prices.begins[rank]
    communication = 0.0
    for interval in machine.intervals[rank]:
        price = prices.price(rank, interval.action)
        length = interval.end - interval.start
        # Beside others a CPU takes less for both, and behind its host a GPU takes longer for neither.
        waiting = (price.exchange + price.gather) * min(1.0, length / price.seconds) if price.seconds else 0.0
        inside += waiting
        module = interval.action.node.module
        computes[module] = computes.get(module, 0.0) + length - waiting
        communication += _covered(posts, now, interval.start)
        now = interval.end
    communication += inside + _covered(posts, now, machine.end)
    idle = seconds - update - sum(computes.values()) - communication
    return Breakdown(computes, communication, update, max(0.0, idle))


def _late(rank: int, machine: Machine, prices: Prices) -> float:
    """Seconds by which a rank's computes take longer than its device needs."""
    return sum(one.end - one.start - prices.cost(rank, one.action) for one in machine.intervals[rank])


def _covered(posts: tuple[Sent, ...], start: float, end: float) -> float:
    """Seconds between two moments in which at least one post is under way."""
    spans = sorted((max(start, post.started), min(end, post.ended)) for post in posts)
    total, reached = 0.0, start
    for begin, stop in spans:
        if stop > max(begin, reached):
            total += stop - max(begin, reached)
            reached = stop
    return total
