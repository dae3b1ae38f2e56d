"""What is held at once: microbatches in flight, receives posted ahead, operations in one coalesced group."""

from collections.abc import Mapping
from dataclasses import dataclass

from counterpoint.check.events import Events, Exchange, Programs, consumed
from counterpoint.check.fault import Fault
from counterpoint.plan import peers
from counterpoint.plan.action import Action, Compute, Direction, Transfer, Work, is_ahead
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import distinct


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most that any rank holds: microbatches in flight by node, receives posted ahead by link."""

    in_flight: dict[Node, int]
    receives: dict[tuple[Link, Direction], int]


def peaks(plan: Plan, programs: Programs) -> Peaks:
    """Peaks over all ranks in program order; a program without backward keeps nothing in flight."""
    found, training = Peaks({}, {}), trains(programs)
    known = set()
    for rank, program in programs.items():
        key = id(program), plan.nodes_of(rank)
        if key not in known:
            known.add(key)
            _Held(plan, rank, training, found).walk(program)
    return found


def trains(programs: Programs) -> bool:
    """Whether the programs have a backward."""
    return any(
        isinstance(action, Compute) and action.work.gives_gradient
        for program in distinct(programs)
        for action in program
    )


def check_buffers(
    plan: Plan, programs: Programs, events: Events, bounds: Mapping[Node, int] | None = None
) -> Fault | None:
    """The first rank that holds more than the schedule promises, or posts a group that is too large.

    `bounds` are the promise, by default that of the plan's training or evaluation schedule, whichever these programs
    are. A training step without any backward looks like evaluation, so its caller gives the bounds.
    """
    training = trains(programs) or any(is_ahead(action) for program in distinct(programs) for action in program)
    if bounds is None:
        bounds = (plan.schedule if training else plan.evaluation).bounds
    for rank, program in programs.items():
        fault = _Held(plan, rank, training, Peaks({}, {}), bounds).walk(program)
        if fault is not None:
            return fault
    for rank, stream in events.items():
        for post in stream:
            if not isinstance(post, Exchange):
                continue
            sends, receives = (sum(flow.count for flow in flows) for flows in (post.sends, post.receives))
            if sends + receives > peers.MOST_OPERATIONS:
                return Fault(
                    f"rank {rank} at {post.action} posts {sends} sends and {receives} receives in one group, expected "
                    f"at most {peers.MOST_OPERATIONS} together; exchange them in rounds",
                    ((rank, post.action),),
                )
    return None


class _Held:
    """One rank's walk through its program, counting what it holds."""

    def __init__(
        self, plan: Plan, rank: int, training: bool, found: Peaks, bounds: Mapping[Node, int] | None = None
    ) -> None:
        self._plan, self._rank, self._training = plan, rank, training
        self._nodes = plan.nodes_of(rank)
        self._found, self._bounds = found, bounds
        self._flights: dict[Node, int] = {}
        self._ahead: dict[tuple[Link, Direction], int] = {}
        self._posted: set[Transfer] = set()
        self._kept: set[tuple[Node, int]] = set()

    def walk(self, program: tuple[Action, ...]) -> Fault | None:
        self._kept = {(a.node, a.microbatch) for a in program if isinstance(a, Compute) and a.work.gives_gradient}
        for action in program:
            fault: Fault | None = None
            match action:
                case Transfer():
                    fault = self._post(action)
                case Compute():
                    fault = self._compute(action)
            if fault is not None:
                return fault
        return None

    def _post(self, action: Transfer) -> Fault | None:
        link, forward = action.link, action.direction is Direction.FORWARD
        if (link.target if forward else link.source) not in self._nodes:
            return None
        key = (link, action.direction)
        self._posted.add(action)
        held = self._ahead[key] = self._ahead.get(key, 0) + 1
        self._found.receives[key] = max(self._found.receives.get(key, 0), held)
        if self._bounds is None or held <= self._most_receives(link):
            return None
        return Fault(
            f"rank {self._rank} at {action} has {held} receives of this link posted ahead, expected at most "
            f"{self._most_receives(link)}, what {link.source} may have in flight; post it after an earlier "
            "one is consumed",
            ((self._rank, action),),
        )

    def _compute(self, action: Compute) -> Fault | None:
        for transfer in consumed(self._plan, action):
            if transfer in self._posted:
                self._ahead[transfer.link, transfer.direction] -= 1
        if not self._training:
            return None
        held = self._hold(action)
        if self._bounds is None or held <= self._bounds[action.node]:
            return None
        return Fault(
            f"rank {self._rank} at {action} has {held} microbatches of {action.node} in flight, expected at most "
            f"{self._bounds[action.node]} under {self._plan.kind}; run a backward first",
            ((self._rank, action),),
        )

    def _most_receives(self, link: Link) -> int:
        """Exchanges of a link that may be posted ahead: those of its source's microbatches that may be in flight."""
        assert self._bounds is not None, "only bounded walks ask"
        stages = self._plan.stages
        if stages.steps_ahead(link.source) > stages.steps_ahead(link.target):
            return stages.exchanges(link, self._plan.microbatches)
        return self._bounds[link.source] * (stages.group(link.source.module) // stages.grain(link))

    def _hold(self, action: Compute) -> int:
        """Microbatches that a node keeps for backward once an action has run."""
        node, stages = action.node, self._plan.stages
        if (node, action.microbatch) not in self._kept:
            return 0
        gives_back = Work.WEIGHT if stages.trains(node) else Work.INPUT
        change = {Work.FORWARD: 1, Work.BACKWARD: -1, gives_back: -1}.get(action.work, 0)
        held = self._flights[node] = self._flights.get(node, 0) + change
        self._found.in_flight[node] = max(self._found.in_flight.get(node, 0), held)
        return held
