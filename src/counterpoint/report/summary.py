"""What all pictures of a plan show: its proof, its timeline at unit costs, and its memory."""

from dataclasses import dataclass
from itertools import groupby

from counterpoint.check.proof import Proof, check_plan
from counterpoint.plan.action import Direction
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.communicators import transfer_name
from counterpoint.plan.graph import Link
from counterpoint.plan.plan import Plan
from counterpoint.simulate.clock import Timeline, flop_costs, simulate
from counterpoint.simulate.memory import ModuleMemory, RankMemory, largest_rows, memory

_DTYPE_BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """A link, the columns of its rows, and the names of the communicators that carry them, forward first."""

    link: Link
    columns: int
    communicators: tuple[str, ...]

    @property
    def carriers(self) -> str:
        """The communicators' names, all but the first only counted where a pipeline has many columns."""
        first, *others = self.communicators
        return ", ".join(self.communicators) if len(others) < 2 else f"{first} and {len(others)} more"


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan with all that is computed from it.

    Only with a batch memory counts activations, and `weighed` is its timeline with FLOPs for costs.
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
        """Ranks that work at the same times on the same stages, together; by their first rank."""
        intervals = self.timeline.intervals
        groups: dict[object, list[int]] = {}
        for rank in sorted(intervals):
            groups.setdefault(intervals[rank], []).append(rank)
        return tuple(tuple(ranks) for ranks in groups.values())

    @property
    def same_memory(self) -> tuple[tuple[int, ...], ...]:
        """Consecutive ranks that need the same memory, together."""
        runs = groupby(sorted(self.memory), key=lambda rank: self.memory[rank])
        return tuple(tuple(ranks) for _memory, ranks in runs)


def summarize(plan: Plan, batch: BatchPlan | None = None) -> Summary:
    """Prove, simulate and measure a plan, with a batch also the rows that it moves; raises ProofError."""
    proof = check_plan(plan, batch)
    timeline = simulate(plan)
    weighed = None if batch is None else simulate(plan, batch, flop_costs(plan, batch))
    rows = dict.fromkeys(plan.layouts, 0) if batch is None else largest_rows(plan, batch)
    modules = {module: _module_memory(plan, module) for module in plan.layouts}
    used = memory(plan, modules, rows, timeline.in_flight)
    return Summary(plan, batch, proof, timeline, weighed, used, tuple(_link(plan, link) for link in plan.stages.links))


def _module_memory(plan: Plan, module: str) -> ModuleMemory:
    """Stored parameters, gradients and what optimizers keep are float32, or float64 where everything is."""
    parts, hidden = plan.facts[module].parts, plan.facts[module].hidden
    kept = [hidden if plan.is_recomputed(module, part.name) else part.activation_elements for part in parts]
    computed = _DTYPE_BYTES[plan.dtype]
    stored = max(computed, _DTYPE_BYTES["float32"])
    return ModuleMemory(
        part_parameters=tuple(part.parameters for part in parts),
        part_expert_parameters=tuple(part.expert_parameters for part in parts),
        activation_bytes=computed * sum(kept) // len(kept),
        parameter_bytes=stored,
        gradient_bytes=stored,
        gathered_bytes=computed,
        part_moments=tuple(update.moments for update in plan.updates.get(module, ())) or (0.0,) * len(parts),
        moment_bytes=stored,
    )


def _link(plan: Plan, link: Link) -> LinkSummary:
    ends = sorted({*plan.stages.ranks[link.source], *plan.stages.ranks[link.target]})
    names = [transfer_name(plan.placement, link, way, rank) for way in Direction for rank in ends]
    return LinkSummary(link, plan.width(link), tuple(dict.fromkeys(names)))
