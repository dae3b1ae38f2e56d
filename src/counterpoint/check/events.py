"""Programs expanded to events: what every rank posts where, waits for, and works on, in order.

The model: transfers are posted and not awaited, a compute waits for what it consumes,
collectives block. Several collectives of one action on one communicator are one event.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.collectives import parameter_axes, reduction_axes, row_axes
from counterpoint.plan.communicators import collective_name, transfer_name
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.peers import Pair
from counterpoint.plan.plan import Plan
from counterpoint.plan.slots import WORLD, Axis

Programs = Mapping[int, tuple[Action, ...]]
"""The ordered actions of a step, by rank."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows that go to a peer or come from it; `rows` is None without a batch.

    Among roles the peer is a role, `count` is the number of its ranks that the representative meets, and the rows are
    those of all of them.
    """

    peer: int
    rows: int | None
    columns: int
    dtype: str
    count: int = 1

    @property
    def carries(self) -> tuple[int | None, int, str]:
        """What both ends must agree on: rows, columns and dtype."""
        return self.rows, self.columns, self.dtype

    def __str__(self) -> str:
        return f"{'any' if self.rows is None else self.rows} x {self.columns} {self.dtype}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One coalesced group of sends and receives, posted by a transfer and not awaited: a round of its exchange."""

    action: Transfer
    communicator: str
    sends: tuple[Flow, ...]
    receives: tuple[Flow, ...]
    round: int = 0

    @property
    def entry(self) -> "Entry":
        """The key of this post among those of its rank."""
        return self.communicator, self.action, self.round

    @property
    def peers(self) -> frozenset[int]:
        """Ranks whose own part of the group must start before this part can complete."""
        return frozenset(flow.peer for flow in (*self.sends, *self.receives))

    def __str__(self) -> str:
        flows = [f"to {flow.peer}: {flow}" for flow in self.sends]
        flows += [f"from {flow.peer}: {flow}" for flow in self.receives]
        return f"post {self.action} on {self.communicator} ({'; '.join(flows) or 'no peers'})"


@dataclass(frozen=True, slots=True)
class Collective:
    """All collectives that an action issues on one communicator; a Wait for them follows.

    An action that comes back to a communicator, as the step does for updates, has another `turn` on it.
    """

    action: Action
    communicator: str
    ranks: tuple[int, ...]
    turn: int = 0

    @property
    def entry(self) -> "Entry":
        """The key of this post among those of its rank."""
        return self.communicator, self.action, self.turn

    def __str__(self) -> str:
        return f"post {self.action} on {self.communicator} (all of {format_ranks(self.ranks)})"


Post = Exchange | Collective
Entry = tuple[str, Action, int]
"""The key of a post among those of one rank: its communicator, its action, and the round of its exchange or the turn of
its collectives."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until these entries of the same rank are complete."""

    action: Action
    entries: tuple[Entry, ...]

    def __str__(self) -> str:
        return f"wait for {', '.join(f'{action} on {name}' for name, action, _round in self.entries)}"


@dataclass(frozen=True, slots=True)
class Run:
    """The work of a compute action: the only event that takes time on a rank."""

    action: Compute

    def __str__(self) -> str:
        return f"run {self.action}"


Event = Post | Wait | Run
Events = dict[int, tuple[Event, ...]]
"""The events of a step, by rank."""


class Shared(NamedTuple):
    """A communicator of collectives as a rank sees it: its name and its members."""

    name: str
    members: tuple[int, ...]


Part = tuple[int, tuple[Flow, ...], tuple[Flow, ...]]
"""A round of a rank's exchange: its number, sends and receives."""


class Surroundings(Protocol):
    """Whom a rank meets where: what its program alone does not say of its events."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The stages that the rank computes."""

    def group(self, axis: Axis) -> Shared | None:
        """The communicator of an axis, None for a rank alone."""

    def channel(self, link: Link, direction: Direction) -> str:
        """The communicator of a link's transfers."""

    def parts(self, action: Transfer) -> Sequence[Part]:
        """The rounds of the rank's part of an exchange, ascending; one without peers if it has none."""


def expand(plan: Plan, programs: Programs, batch: BatchPlan | None = None, ahead: BatchPlan | None = None) -> Events:
    """The events of exactly these programs; without a batch a transfer has every peer that any batch could give it.

    `ahead` is the batch of what runs ahead.
    """
    flows = _Flows(plan, batch, ahead)
    return {rank: walk(plan, program, _OfRank(plan, flows, rank)) for rank, program in programs.items()}


def expand_template(plan: Plan, programs: Programs) -> Events:
    """The events of programs from which a batch may erase actions: every post that any batch could keep.

    Parameters are gathered at a node's first compute, which may be any of its computes once others are erased; so here
    they are gathered at each. So what a batch posts is a sub-order of this, and what is proved here holds for it.
    """
    flows = _Flows(plan, None, None)
    return {
        rank: walk(plan, program, _OfRank(plan, flows, rank), is_template=True) for rank, program in programs.items()
    }


def walk(
    plan: Plan, program: tuple[Action, ...], around: Surroundings, *, is_template: bool = False
) -> tuple[Event, ...]:
    """The events of one rank's program; with `is_template` every compute gathers its parameters."""
    return tuple(_Walk(plan, around, is_template).events(program))


class _Walk:
    """One rank's walk through its program.

    The collectives of an action come in one order of communicators, whichever of them a batch keeps.
    """

    def __init__(self, plan: Plan, around: Surroundings, is_template: bool) -> None:
        self._plan, self._around, self._is_template = plan, around, is_template
        self._computed: set[Node] = set()
        self._reduced: set[Node] = set()
        self._open: dict[Transfer, tuple[Entry, ...]] = {}
        self._known: dict[tuple[Node, tuple[str, ...]], tuple[Shared | None, ...]] = {}
        self._computing: dict[tuple[Node, bool, bool], tuple[Shared, ...]] = {}

    def events(self, program: tuple[Action, ...]) -> Iterator[Event]:
        for action in program:
            match action:
                case Transfer():
                    yield from self._exchange(action)
                case Compute():
                    yield from self._compute(action)
                case Reduce():
                    yield from self._reduce(action)
                case Step():
                    yield from self._await(action, tuple(self._open))
                    yield from self._step(action)

    def _exchange(self, action: Transfer) -> Iterator[Exchange]:
        """The rounds of this rank's part, in ascending order."""
        name = self._around.channel(action.link, action.direction)
        posts = [Exchange(action, name, out, back, number) for number, out, back in self._around.parts(action)]
        self._open[action] = tuple(post.entry for post in posts)
        yield from posts

    def _compute(self, action: Compute) -> Iterator[Event]:
        yield from self._await(action, consumed(self._plan, action))
        if action.work is Work.WEIGHT:
            # Its inputs are on the rank, its gradients stay there until the reduction.
            yield Run(action)
            return
        layout = self._plan.layouts[action.node.module]
        gathers = self._is_template or layout.reshard or action.node not in self._computed
        self._computed.add(action.node)
        key = action.node, action.work is Work.FORWARD, gathers
        if key not in self._computing:
            self._computing[key] = self._of_compute(*key)
        for group in self._computing[key]:
            yield from self._collective(action, group)
        yield Run(action)

    def _of_compute(self, node: Node, is_forward: bool, gathers: bool) -> tuple[Shared, ...]:
        """The communicators of a compute's collectives."""
        has_experts = self._plan.has_experts(node)
        rows = row_axes(has_experts=has_experts, pools=is_forward and self._plan.pools(node))
        needed = None if gathers else self._groups(node, rows)
        return _distinct(self._groups(node, (*parameter_axes(has_experts=has_experts), *rows)), needed)

    def _reduce(self, action: Reduce) -> Iterator[Event]:
        # It may begin inside the backward right before it (`Schedule.reducing`): nothing comes between the two.
        # A stage that no microbatch reached has zero gradients on all ranks alike and communicates nothing.
        self._reduced.add(action.node)
        if action.node in self._computed:
            axes = reduction_axes(has_experts=self._plan.has_experts(action.node))
            for group in _distinct(self._groups(action.node, axes)):
                yield from self._collective(action, group)

    def _step(self, action: Step) -> Iterator[Event]:
        """Sums of partial gradients over tp, stage by stage, of tied copies, and of all ranks' scalars; then what
        updates exchange, module by module. Without a reduction, as in evaluation, the sum of the loss alone."""
        reduced = [node for node in self._around.nodes if node in self._reduced]
        tied = [self._around.group((node.module, "tie")) for node in reduced]
        active = self._around.group(WORLD)
        most = [group for node in reduced for group in self._groups(node, ("tp",))]
        partial = [group for node in reduced if node in self._computed for group in self._groups(node, ("tp",))]
        for group in _distinct((*most, *tied, active), (*partial, *tied, active)):
            yield from self._collective(action, group)
        for turn, module in enumerate(self._plan.graph.modules, start=1):
            if any(node.module == module and self._plan.exchanges(node) for node in reduced):
                yield from self._collective(action, self._around.group((module, "stage")), turn)

    def _groups(self, node: Node, axes: tuple[str, ...]) -> tuple[Shared | None, ...]:
        if (node, axes) not in self._known:
            self._known[node, axes] = tuple(self._around.group((node.module, axis)) for axis in axes)
        return self._known[node, axes]

    def _collective(self, action: Action, group: Shared | None, turn: int = 0) -> Iterator[Event]:
        if group is not None:
            post = Collective(action, group.name, group.members, turn)
            yield post
            yield Wait(action, (post.entry,))

    def _await(self, action: Action, transfers: tuple[Transfer, ...]) -> Iterator[Event]:
        entries = tuple(entry for each in transfers if each in self._open for entry in self._open.pop(each))
        if entries:
            yield Wait(action, entries)


def _distinct(groups: tuple[Shared | None, ...], needed: tuple[Shared | None, ...] | None = None) -> tuple[Shared, ...]:
    """Each communicator once that is `needed`, by default all, in the order of `groups`: those of ranks alone are None.

    Without data parallelism FSDP and context parallelism share one.
    """
    names = None if needed is None else {group.name for group in needed if group is not None}
    found = {group.name: group for group in groups if group is not None}
    return tuple(group for name, group in found.items() if names is None or name in names)


def consumed(plan: Plan, action: Compute) -> tuple[Transfer, ...]:
    """The transfers that bring what a compute action reads, for all of its links."""
    return tuple(plan.stages.reads(action, plan.microbatches))


class _OfRank:
    """The surroundings of one rank among all ranks."""

    def __init__(self, plan: Plan, flows: "_Flows", rank: int) -> None:
        self._plan, self._flows, self._rank = plan, flows, rank
        self._slots, self._numbers = plan.slots.of(rank)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self._plan.nodes_of(self._rank)

    def group(self, axis: Axis) -> Shared | None:
        slot = self._slots.of.get(axis)
        if slot is None:
            return None
        ranks = self._plan.slots.groups[self._numbers[slot]]
        return Shared(collective_name(ranks), ranks)

    def channel(self, link: Link, direction: Direction) -> str:
        return transfer_name(self._plan.placement, link, direction, self._rank)

    def parts(self, action: Transfer) -> Sequence[Part]:
        return self._flows.of(action, self._rank)


def columns_of(plan: Plan, link: Link, direction: Direction) -> tuple[int, int]:
    """Columns that the sender has and that the receiver expects; at an edge each is its own module's."""
    source, target = plan.width(link), plan.expected_width(link)
    return (source, target) if direction is Direction.FORWARD else (target, source)


class _Flows:
    """Sends and receives by transfer and rank; those of a batch are computed once per transfer."""

    def __init__(self, plan: Plan, batch: BatchPlan | None, ahead: BatchPlan | None) -> None:
        self._plan, self._batch, self._ahead = plan, batch, ahead
        self._known: dict[tuple[Link, Direction, int], dict[int, tuple[Part, ...]]] = {}

    def of(self, action: Transfer, rank: int) -> Sequence[Part]:
        batch = self._ahead if action.ahead else self._batch
        known = self._known.setdefault((action.link, action.direction, -1 if batch is None else action.exchange), {})
        if batch is None and rank not in known:
            known[rank] = self._cut(action, rank, *self._plan.peers(action.link, action.direction, rank))
        elif batch is not None and not known:
            known |= self._of_batch(action, batch)
        return known.get(rank, _NOTHING)

    def _cut(
        self,
        action: Transfer,
        rank: int,
        to: Iterable[int],
        back: Iterable[int],
        rows: Mapping[Pair, int] | None = None,
    ) -> tuple[Part, ...]:
        """A rank's flows by round; `rows` by sender and receiver, None for any."""
        (sent, expected), dtype = columns_of(self._plan, action.link, action.direction), self._plan.dtype
        sends = [Flow(peer, None if rows is None else rows[rank, peer], sent, dtype) for peer in to]
        receives = [Flow(peer, None if rows is None else rows[peer, rank], expected, dtype) for peer in back]
        cut = self._plan.rounds[action.link].cut(rank, action.direction, sends, receives, lambda flow: flow.peer)
        return tuple((number, tuple(out), tuple(into)) for number, out, into in cut)

    def _of_batch(self, action: Transfer, batch: BatchPlan) -> dict[int, tuple[Part, ...]]:
        """The parts of all ranks that have any in a batch."""
        rows = rows_of(self._plan, action, batch)
        sends: dict[int, list[int]] = {}
        receives: dict[int, list[int]] = {}
        for sender, receiver in sorted(rows):
            sends.setdefault(sender, []).append(receiver)
            receives.setdefault(receiver, []).append(sender)
        ranks = {*sends, *receives}
        return {r: self._cut(action, r, sends.get(r, ()), receives.get(r, ()), rows) for r in ranks} or {-1: _NOTHING}


def rows_of(plan: Plan, action: Transfer, batch: BatchPlan) -> dict[Pair, int]:
    """Rows of a batch's exchange by (sender, receiver), without the rows that stay on their rank."""
    rows = plan.rows_between(batch, action.link, action.exchange)
    return rows if action.direction is Direction.FORWARD else {(b, a): count for (a, b), count in rows.items()}


_NOTHING: tuple[Part, ...] = ((0, (), ()),)
