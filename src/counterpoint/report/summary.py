"""The figures of a plan that all its reports show: proof, timeline at unit costs, and memory."""

from dataclasses import dataclass
from itertools import groupby

from counterpoint.check.proof import Proof, check_plan
from counterpoint.plan.action import Direction
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.communicators import channels
from counterpoint.plan.graph import Link
from counterpoint.plan.plan import Plan
from counterpoint.simulate.clock import Timeline, flop_costs, simulate
from counterpoint.simulate.memory import RankMemory, memory
from counterpoint.simulate.sizes import lane_rows


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """A link, the columns of its rows, and the names of the communicators that carry them, forward first."""

    link: Link
    columns: int
    communicators: tuple[str, ...]

    @property
    def carriers(self) -> str:
        """The communicators' names; if there are many, the first one and the number of the others."""
        first, *others = self.communicators
        return ", ".join(self.communicators) if len(others) < 2 else f"{first} and {len(others)} more"


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan and the figures computed from it.

    With a batch, memory includes its rows, and `weighed` is the timeline with FLOPs as costs; else it is None. Memory
    is each rank's peak over the whole template.
    """

    plan: Plan
    batch: BatchPlan | None
    proof: Proof
    timeline: Timeline
    weighed: Timeline | None
    memory: dict[int, RankMemory]
    links: tuple[LinkSummary, ...]

    @property
    def same_programs(self) -> tuple[tuple[int, ...], ...]:
        """Groups of ranks with the same timeline, ordered by their first rank."""
        groups: dict[object, list[int]] = {}
        for role, ranks in self.timeline.ranks.items():
            groups.setdefault(self.timeline.by_role[role], []).extend(ranks)
        return tuple(sorted(tuple(sorted(ranks)) for ranks in groups.values()))

    @property
    def same_memory(self) -> tuple[tuple[int, ...], ...]:
        """Groups of consecutive ranks that need the same memory."""
        runs = groupby(sorted(self.memory), key=lambda rank: self.memory[rank])
        return tuple(tuple(ranks) for _memory, ranks in runs)


def summarize(plan: Plan, batch: BatchPlan | None = None) -> Summary:
    """Prove, simulate and measure a plan, and with a batch also its rows; raises ProofError."""
    proof = check_plan(plan, batch)
    timeline = simulate(plan)
    weighed = None if batch is None else simulate(plan, batch, flop_costs(plan, batch))
    rows = {} if batch is None else lane_rows(plan, batch)
    used = memory(plan, rows, plan.schedule.programs)
    return Summary(plan, batch, proof, timeline, weighed, used, tuple(_link(plan, link) for link in plan.stages.links))


def _link(plan: Plan, link: Link) -> LinkSummary:
    names = tuple(channel.name for way in Direction for channel in channels(plan.placement, link, way))
    return LinkSummary(link, plan.width(link), names)
