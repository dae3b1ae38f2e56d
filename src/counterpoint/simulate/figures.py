"""What a played step comes to, and several on average: seconds, what the mean rank does in them, and memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from counterpoint.costs.hardware import Hardware
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import model_flops
from counterpoint.simulate.memory import RankMemory
from counterpoint.simulate.played import Breakdown, StepTimeline


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFigures:
    """What a step takes on hardware, or several on average: seconds, FLOPs of the model, and rows of documents.

    `peak_flops` are those of all ranks in a second; `memory` is the most that each played rank needs in any of them.
    """

    seconds: float
    flops: float
    tokens: float
    peak_flops: float
    breakdown: Breakdown
    memory: Mapping[int, RankMemory]
    is_gpu: bool

    @property
    def utilisation(self) -> float:
        """The share of the peak that the model's FLOPs reach."""
        return self.flops / self.seconds / self.peak_flops

    @property
    def bubble(self) -> float:
        """The fraction of all ranks' time in which they wait for the work of others."""
        return self.breakdown.idle / self.seconds

    @property
    def exposed(self) -> float:
        """The fraction of all ranks' time in which they wait for communication that nothing hides."""
        return self.breakdown.communication / self.seconds

    @property
    def tokens_per_second(self) -> float:
        """Rows of documents per second."""
        return self.tokens / self.seconds

    @property
    def memory_bytes(self) -> int:
        """What the fullest rank needs at its peak: its tensors, and on a GPU the allocator's share and the context."""
        return max(most.total_bytes + most.allocator_bytes * self.is_gpu for most in self.memory.values())

    @property
    def tensor_bytes(self) -> int:
        """The tensors of the fullest rank at its peak."""
        return max(most.total_bytes for most in self.memory.values())


def step_figures(plan: Plan, hardware: Hardware, batch: BatchPlan, timeline: StepTimeline) -> StepFigures:
    """The figures of a batch's step as it was played."""
    return StepFigures(
        seconds=timeline.seconds,
        flops=sum(model_flops(plan, batch).values()),
        tokens=sum(sum(lanes.lengths(lane)) for lanes in batch.shares[plan.sink] for lane in range(len(lanes))),
        peak_flops=hardware.peak_flops(plan.dtype) * len(plan.placement.active),
        breakdown=mean_breakdown((one, timeline.counts[rank]) for rank, one in timeline.breakdowns.items()),
        memory={rank: curve.most for rank, curve in timeline.memory.items()},
        is_gpu=hardware.device == "cuda",
    )


def mean_figures(steps: Sequence[StepFigures]) -> StepFigures:
    """The mean of steps of one plan on one machine."""
    return StepFigures(
        seconds=fmean(step.seconds for step in steps),
        flops=fmean(step.flops for step in steps),
        tokens=fmean(step.tokens for step in steps),
        peak_flops=steps[0].peak_flops,
        breakdown=mean_breakdown((step.breakdown, 1) for step in steps),
        memory=_most(steps),
        is_gpu=steps[0].is_gpu,
    )


def mean_breakdown(breakdowns: Iterable[tuple[Breakdown, int]]) -> Breakdown:
    """The mean over ranks, or steps, of breakdowns with the number that each is of."""
    every = list(breakdowns)
    count = sum(n for _one, n in every)
    modules = dict.fromkeys(module for one, _n in every for module in one.computes)
    return Breakdown(
        {module: sum(one.computes.get(module, 0.0) * n for one, n in every) / count for module in modules},
        sum(one.communication * n for one, n in every) / count,
        sum(one.optimizer * n for one, n in every) / count,
        sum(one.idle * n for one, n in every) / count,
    )


def _most(steps: Sequence[StepFigures]) -> dict[int, RankMemory]:
    """The most that each rank needs in any of the steps; a rank that is not played in each counts where it is."""
    found: dict[int, RankMemory] = {}
    for step in steps:
        for rank, most in step.memory.items():
            found[rank] = max(found.get(rank, most), most, key=lambda each: each.total_bytes)
    return found
