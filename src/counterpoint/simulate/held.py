"""Memory over time: what a rank's walk through its program needs, at the times of its actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from counterpoint.check.machine import Interval
from counterpoint.plan.action import Action, Compute
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan
from counterpoint.simulate.memory import RankMemory, timeline
from counterpoint.simulate.sizes import Rows, lane_rows


@final
@dataclass(frozen=True, slots=True)
class MemoryCurve:
    """Bytes of tensors of a rank from each of these moments on, (seconds, bytes), and what it needs at the peak."""

    steps: tuple[tuple[float, int], ...]
    most: RankMemory

    @property
    def peak(self) -> int:
        """The most bytes of tensors at once."""
        return self.most.total_bytes


def memory_curves(
    plan: Plan,
    batch: BatchPlan,
    programs: Mapping[int, tuple[Action, ...]],
    intervals: Mapping[int, Sequence[Interval]],
) -> dict[int, MemoryCurve]:
    """The curve of each rank of a played step; ranks with the same stages and times share one."""
    rows = lane_rows(plan, batch)
    known: dict[object, MemoryCurve] = {}
    found: dict[int, MemoryCurve] = {}
    for rank, program in programs.items():
        key = plan.nodes_of(rank), tuple(intervals[rank])
        if key not in known:
            known[key] = _curve(plan, rank, rows, program, intervals[rank])
        found[rank] = known[key]
    return found


def _curve(
    plan: Plan,
    rank: int,
    rows: Mapping[str, Sequence[Rows]],
    program: tuple[Action, ...],
    intervals: Sequence[Interval],
) -> MemoryCurve:
    """What has no time of its own belongs to the end of the compute before it."""
    times = {one.action: one for one in intervals}
    walk = list(timeline(plan, rank, rows, program))
    steps: list[tuple[float, int]] = []
    now = 0.0
    for action, used in zip(program, walk, strict=True):
        compute = times[action] if isinstance(action, Compute) else None
        steps.append((now if compute is None else compute.start, used.total_bytes))
        now = now if compute is None else compute.end
    return MemoryCurve(tuple(steps), max(walk, key=lambda used: used.total_bytes))
