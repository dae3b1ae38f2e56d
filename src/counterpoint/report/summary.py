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
        """The communicators' names; if there are many, the first one and the number of the others."""
        first, *others = self.communicators
        return ", ".join(self.communicators) if len(others) < 2 else f"{first} and {len(others)} more"


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan and the figures computed from it.

    With a batch, memory includes activations, and `weighed` is the timeline with FLOPs as costs; else it is None.
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
    rows = dict.fromkeys(plan.layouts, 0) if batch is None else largest_rows(plan, batch)
    modules = {module: _module_memory(plan, module) for module in plan.layouts}
    used = memory(plan, modules, rows, timeline.in_flight)
    return Summary(plan, batch, proof, timeline, weighed, used, tuple(_link(plan, link) for link in plan.stages.links))


def _module_memory(plan: Plan, module: str) -> ModuleMemory:
    """The memory of a module; stored parameters, gradients and moments are float32, or float64 if everything is."""
    parts = plan.facts[module].parts
    elements = {part.name: plan.kept_elements(module, part.name) for part in parts}
    away = [count for name, count in elements.items() if plan.is_offloaded(module, name)]
    kept = [count for name, count in elements.items() if not plan.is_offloaded(module, name)]
    computed = _DTYPE_BYTES[plan.dtype]
    stored = max(computed, _DTYPE_BYTES["float32"])
    return ModuleMemory(
        part_parameters=tuple(part.parameters for part in parts),
        part_expert_parameters=tuple(part.expert_parameters for part in parts),
        activation_bytes=computed * sum(kept) // len(parts),
        passing_bytes=2 * computed * max(away, default=0),
        parameter_bytes=stored,
        gradient_bytes=stored,
        gathered_bytes=computed,
        part_moments=tuple(update.moments for update in plan.updates.get(module, ())) or (0.0,) * len(parts),
        moment_bytes=stored,
    )


def _link(plan: Plan, link: Link) -> LinkSummary:
    names = tuple(channel.name for way in Direction for channel in channels(plan.placement, link, way))
    return LinkSummary(link, plan.width(link), names)
