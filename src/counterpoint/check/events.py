"""Programs expanded to events: what every rank posts where, waits for, and works on, in order.

The model: transfers are posted and not awaited, a compute waits for what it consumes,
collectives block. Several collectives of one action on one communicator are one event.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.communicators import collective_name, transfer_name
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.plan import Plan
from counterpoint.plan.route import Copy

Programs = Mapping[int, tuple[Action, ...]]
"""The ordered actions of a step, by rank."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Rows that go to a peer or come from it; `rows` is None without a batch."""

    peer: int
    rows: int | None
    columns: int
    dtype: str

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


def expand(plan: Plan, programs: Programs, batch: BatchPlan | None = None, ahead: BatchPlan | None = None) -> Events:
    """The events of exactly these programs; without a batch a transfer has every peer that any batch could give it.

    `ahead` is the batch of what runs ahead.
    """
    flows = _Flows(plan, batch, ahead)
    return {rank: tuple(_Walk(plan, flows, rank).events(program)) for rank, program in programs.items()}


def expand_template(plan: Plan, programs: Programs) -> Events:
    """The events of programs from which a batch may erase actions: every post that any batch could keep.

    Parameters are gathered at a node's first compute, which may be any of its computes once others are erased; so here
    they are gathered at each. So what a batch posts is a sub-order of this, and what is proved here holds for it.
    """
    flows = _Flows(plan, None, None)
    return {rank: tuple(_Walk(plan, flows, rank, True).events(program)) for rank, program in programs.items()}


class _Walk:
    """One rank's walk through its program; with `is_template` every compute gathers its parameters.

    The collectives of an action come in one order of communicators, whichever of them a batch keeps.
    """

    def __init__(self, plan: Plan, flows: "_Flows", rank: int, is_template: bool = False) -> None:
        self._plan, self._flows, self._rank, self._is_template = plan, flows, rank, is_template
        self._computed: set[Node] = set()
        self._reduced: set[Node] = set()
        self._open: dict[Transfer, tuple[Entry, ...]] = {}
        self._known: dict[tuple[Node, tuple[str, ...]], tuple[tuple[int, ...], ...]] = {}

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
        """The rounds of this rank's part, in ascending order; one without peers if it has none."""
        name = transfer_name(self._plan.placement, action.link, action.direction, self._rank)
        sends, receives = self._flows.of(action, self._rank)
        rounds = self._plan.rounds[action.link]
        parts = rounds.cut(self._rank, action.direction, sends, receives, lambda flow: flow.peer)
        posts = [Exchange(action, name, tuple(out), tuple(back), number) for number, out, back in parts]
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
        has_experts = self._plan.has_experts(action.node)
        parameters = ("dp_shard", "edp") if has_experts else ("dp_shard",)
        rows = ("tp", "cp", "lane", "ep") if has_experts else ("tp", "cp")
        if action.work is Work.FORWARD and self._plan.pools(action.node):
            rows = (*rows, "lane")
        needed = None if gathers else self._groups(action.node, rows)
        yield from self._collectives(action, self._groups(action.node, (*parameters, *rows)), needed)
        yield Run(action)

    def _reduce(self, action: Reduce) -> Iterator[Event]:
        # It may begin inside the backward right before it (`Schedule.reducing`): nothing comes between the two.
        # A stage that no microbatch reached has zero gradients on all ranks alike and communicates nothing.
        self._reduced.add(action.node)
        if action.node in self._computed:
            experts = ("edp",) if self._plan.has_experts(action.node) else ()
            yield from self._collectives(action, self._groups(action.node, ("dp_shard", "dp_replicate", *experts)))

    def _step(self, action: Step) -> Iterator[Event]:
        """Sums of partial gradients over tp, stage by stage, of tied copies, and of all ranks' scalars; then what
        updates exchange, module by module. Without a reduction, as in evaluation, the sum of the loss alone."""
        reduced = [node for node in self._plan.nodes_of(self._rank) if node in self._reduced]
        tied = [self._plan.tie(node.module, self._rank) for node in reduced]
        active = self._plan.placement.active
        most = [group for node in reduced for group in self._groups(node, ("tp",))]
        partial = [group for node in reduced if node in self._computed for group in self._groups(node, ("tp",))]
        yield from self._collectives(action, (*most, *tied, active), (*partial, *tied, active))
        for turn, module in enumerate(self._plan.graph.modules, start=1):
            if any(node.module == module and self._plan.exchanges(node) for node in reduced):
                yield from self._collective(action, self._plan.stage_ranks(module, self._rank), turn)

    def _groups(self, node: Node, axes: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        if (node, axes) not in self._known:
            layout = self._plan.layouts[node.module]
            self._known[node, axes] = tuple(layout.group(axis, self._rank) for axis in axes)
        return self._known[node, axes]

    def _collectives(
        self, action: Action, groups: tuple[tuple[int, ...], ...], needed: tuple[tuple[int, ...], ...] | None = None
    ) -> Iterator[Event]:
        """One event for each communicator that is `needed`, by default all, in the order of `groups`.

        Without data parallelism FSDP and context parallelism share one.
        """
        for ranks in dict.fromkeys(groups):
            if needed is None or ranks in needed:
                yield from self._collective(action, ranks)

    def _collective(self, action: Action, ranks: tuple[int, ...], turn: int = 0) -> Iterator[Event]:
        if len(ranks) > 1:
            post = Collective(action, collective_name(ranks), ranks, turn)
            yield post
            yield Wait(action, (post.entry,))

    def _await(self, action: Action, transfers: tuple[Transfer, ...]) -> Iterator[Event]:
        entries = tuple(entry for each in transfers if each in self._open for entry in self._open.pop(each))
        if entries:
            yield Wait(action, entries)


def consumed(plan: Plan, action: Compute) -> tuple[Transfer, ...]:
    """The transfers that bring what a compute action reads, for all of its links."""
    return tuple(plan.stages.reads(action, plan.microbatches))


_RankFlows = tuple[tuple[Flow, ...], tuple[Flow, ...]]


class _Flows:
    """Sends and receives by transfer and rank; computed once per transfer."""

    def __init__(self, plan: Plan, batch: BatchPlan | None, ahead: BatchPlan | None) -> None:
        self._plan, self._batch, self._ahead = plan, batch, ahead
        self._known: dict[tuple[Link, Direction, int], dict[int, _RankFlows]] = {}

    def of(self, action: Transfer, rank: int) -> _RankFlows:
        key = (action.link, action.direction, 0 if self._batch_of(action) is None else action.exchange)
        if key not in self._known:
            self._known[key] = self._by_rank(action, self._rows(action))
        return self._known[key].get(rank, ((), ()))

    def _batch_of(self, action: Transfer) -> BatchPlan | None:
        return self._ahead if action.ahead else self._batch

    def _rows(self, action: Transfer) -> dict[tuple[int, int], int | None]:
        """Rows by (sender, receiver), without the rows that stay on their rank."""
        batch = self._batch_of(action)
        if batch is None:
            return dict.fromkeys(self._plan.pairs(action.link, action.direction))
        copies: tuple[Copy, ...] = self._plan.route(batch, action.link, action.exchange).copies
        rows: dict[tuple[int, int], int | None] = {}
        for copy in copies:
            pair = (copy.source_rank, copy.target_rank)
            if action.direction is Direction.BACKWARD:
                pair = (pair[1], pair[0])
            if pair[0] != pair[1]:
                rows[pair] = (rows.get(pair) or 0) + copy.rows
        return rows

    def _by_rank(self, action: Transfer, rows: dict[tuple[int, int], int | None]) -> dict[int, _RankFlows]:
        columns = self._columns(action)
        sends: dict[int, list[Flow]] = {}
        receives: dict[int, list[Flow]] = {}
        for (sender, receiver), count in sorted(rows.items()):
            sends.setdefault(sender, []).append(Flow(receiver, count, columns[0], self._plan.dtype))
            receives.setdefault(receiver, []).append(Flow(sender, count, columns[1], self._plan.dtype))
        return {rank: (tuple(sends.get(rank, ())), tuple(receives.get(rank, ()))) for rank in {*sends, *receives}}

    def _columns(self, action: Transfer) -> tuple[int, int]:
        """Columns that the sender has and that the receiver expects; at an edge each is its own module's."""
        source, target = self._plan.width(action.link), self._plan.expected_width(action.link)
        return (source, target) if action.direction is Direction.FORWARD else (target, source)
