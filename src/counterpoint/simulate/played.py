"""One step as it was played with real costs: when each rank computed, sent, and waited, and what it held."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from counterpoint.check.machine import Interval
from counterpoint.plan.action import Action, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import format_ranks
from counterpoint.simulate.clock import IDLE, LETTERS, WEIGHTS
from counterpoint.simulate.held import MemoryCurve

UPDATE = "="
"""The letter of the optimizer's update."""


@final
@dataclass(frozen=True, slots=True)
class Sent:
    """A transfer or a collective on one rank: when it was posted, when all its parts had started, and when it ended."""

    action: Action
    communicator: str
    posted: float
    started: float
    ended: float

    @property
    def seconds(self) -> float:
        """Its own time, without waiting for other ranks."""
        return self.ended - self.started


@final
@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where the seconds of a step go on a rank, or on the mean rank; they add up to the step.

    `computes` are by module, with recomputation and the host's launches; `communication` is what no work of the rank
    hides; `idle` is waiting for the work of others.
    """

    computes: Mapping[str, float]
    communication: float
    optimizer: float
    idle: float

    @property
    def busy(self) -> float:
        """Seconds in which the rank computes or updates."""
        return sum(self.computes.values()) + self.optimizer

    @property
    def seconds(self) -> float:
        """The step."""
        return self.busy + self.communication + self.idle


@final
@dataclass(frozen=True, slots=True)
class StepTimeline:
    """Computes, posts and memory by rank, in seconds; one rank of `same` stands for all that do the same.

    In a large world only some ranks were played, each for as many as `counts` says.

    `updated` is when ranks have applied the update of the step before. Hosts launch the step in `launching` at most; on
    GPUs `late` says for how long each rank's device waits for what its host has not launched.
    """

    seconds: float
    same: tuple[tuple[int, ...], ...]
    computes: Mapping[int, tuple[Interval, ...]]
    posts: Mapping[int, tuple[Sent, ...]]
    updated: Mapping[int, float]
    breakdowns: Mapping[int, Breakdown]
    memory: Mapping[int, MemoryCurve]
    launching: float
    late: Mapping[int, float]
    counts: Mapping[int, int]


def draw(timeline: StepTimeline, width: int) -> str:
    """An ASCII Gantt chart, one line for ranks that do the same, and a legend of the nodes."""
    firsts = [ranks[0] for ranks in timeline.same]
    nodes = sorted({one.action.node for rank in firsts for one in timeline.computes[rank]})
    letters = {node: LETTERS[number % len(LETTERS)] for number, node in enumerate(nodes)}
    labels = [format_ranks(ranks) for ranks in timeline.same]
    place = min(max(map(len, labels)), 12)
    lines = []
    for name, rank in zip(labels, firsts, strict=True):
        idle = (timeline.breakdowns[rank].idle + timeline.breakdowns[rank].communication) / timeline.seconds
        lines.append(f"{name:>{place}} |{''.join(_slots(timeline, rank, letters, width))}| {idle:4.0%} waits")
    legend = ", ".join(f"{letter} {node}" for node, letter in letters.items())
    has_weights = any(one.action.work is Work.WEIGHT for rank in firsts for one in timeline.computes[rank])
    weights = f", {WEIGHTS} weight gradients" if has_weights else ""
    return "\n".join([*lines, f"{legend}; small forward, capital backward{weights}, {UPDATE} update, {IDLE} waits"])


def _slots(timeline: StepTimeline, rank: int, letters: Mapping[Node, str], width: int) -> list[str]:
    """Every column shows what the rank does in the middle of its slice of time."""
    slots = [IDLE] * width

    def fill(start: float, end: float, letter: str) -> None:
        first, last = (min(width, max(0, round(time / timeline.seconds * width))) for time in (start, end))
        slots[first:last] = letter * (last - first)

    fill(0.0, timeline.updated[rank], UPDATE)
    for one in timeline.computes[rank]:
        letter = letters[one.action.node]
        fill(one.start, one.end, {Work.FORWARD: letter, Work.WEIGHT: WEIGHTS}.get(one.action.work, letter.upper()))
    return slots
