"""The machine that plays events: every (rank, communicator) is a FIFO, posting is not completion.

An entry starts when it is posted and everything ahead of it in its FIFO is complete. An exchange of several rounds is
as many entries. Collectives complete when all members have started them, exchanges when each of their peers has started
its own part; they take the time that `durations` gives from then on. Played with the cost of every compute, the same
machine is the simulator's clock. Linear in the events and flows.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from counterpoint.check.events import Collective, Entry, Event, Events, Exchange, Post, Run, Wait
from counterpoint.plan.action import Action, Compute

Cost = Callable[[int, Compute], float]
"""The time that a compute action takes on a rank."""

Durations = Callable[[int, Post], float]
"""The time that a rank's part of a post takes once all its parts have started; a collective takes that of its slowest
member."""


Ends = Callable[[int, Compute, float, float], float]
"""When a rank ends a compute action that it can begin at a time, and that costs so much from then on."""


@dataclass(frozen=True, slots=True)
class Interval:
    """When a rank worked on a compute action."""

    action: Compute
    start: float
    end: float


@dataclass(slots=True, eq=False)
class State:
    """The progress of an entry; times are None until known, `missing` counts parts that have not started.

    `peers` are those of an exchange.
    """

    rank: int
    post: Post
    peers: frozenset[int]
    missing: int
    posted: float | None = None
    started: float | None = None
    completed: float | None = None
    latest_start: float = 0.0


@dataclass(slots=True)
class _Rank:
    events: tuple[Event, ...]
    cursor: int = 0
    now: float = 0.0
    blocked_on: State | None = None
    intervals: list[Interval] = field(default_factory=list)


def no_cost(_rank: int, _action: Compute) -> float:
    """No compute takes time: the machine of a proof."""
    return 0.0


def no_durations(_rank: int, _post: Post) -> float:
    """Posts complete when their last part starts."""
    return 0.0


def at_its_cost(_rank: int, _action: Compute, start: float, cost: float) -> float:
    """A compute takes what it costs."""
    return start + cost


class Machine:
    """Plays events to the end, or until no rank can go on; then `stuck` is not empty.

    A rank begins at its time in `begins`, 0 if it has none.
    """

    def __init__(
        self,
        events: Events,
        cost: Cost = no_cost,
        durations: Durations = no_durations,
        begins: Mapping[int, float] | None = None,
        ends: Ends = at_its_cost,
    ) -> None:
        self._cost, self.durations, self._ends = cost, durations, ends
        started = begins or {}
        self._ranks = {rank: _Rank(stream, now=started.get(rank, 0.0)) for rank, stream in events.items()}
        self.states: dict[int, dict[Entry, State]] = {}
        for rank, stream in events.items():
            posts = [event for event in stream if isinstance(event, Exchange | Collective)]
            self.states[rank] = {post.entry: _state(rank, post) for post in posts}
        self.fifos: dict[tuple[int, str], deque[State]] = {}
        self._free_from: dict[tuple[int, str], float] = {}
        self._gathered: dict[tuple[Entry, int], list[State]] = {}
        self._startable: deque[tuple[State, float]] = deque()
        self._runnable = deque(self._ranks)
        self._play()

    @property
    def intervals(self) -> dict[int, tuple[Interval, ...]]:
        """The compute actions of every rank, in order."""
        return {rank: tuple(state.intervals) for rank, state in self._ranks.items()}

    @property
    def end(self) -> float:
        """The time at which the last rank ends."""
        return max((state.now for state in self._ranks.values()), default=0.0)

    @property
    def stuck(self) -> dict[int, tuple[Action, State]]:
        """Ranks that cannot go on: the action at which each stands and the entry that it waits for."""
        return {
            rank: (state.events[state.cursor].action, state.blocked_on)
            for rank, state in self._ranks.items()
            if state.blocked_on is not None
        }

    @property
    def unfinished(self) -> tuple[State, ...]:
        """Entries that are not complete."""
        return tuple(s for states in self.states.values() for s in states.values() if s.completed is None)

    def _play(self) -> None:
        while self._runnable or self._startable:
            if self._startable:
                self._start(*self._startable.popleft())
            else:
                self._advance(self._runnable.popleft())

    def _advance(self, rank: int) -> None:
        state = self._ranks[rank]
        state.blocked_on = None
        while state.cursor < len(state.events):
            match state.events[state.cursor]:
                case Run(action=action):
                    end = self._ends(rank, action, state.now, self._cost(rank, action))
                    state.intervals.append(Interval(action, state.now, end))
                    state.now = end
                case Wait(entries=entries):
                    for entry in entries:
                        awaited = self.states[rank][entry]
                        if awaited.completed is None:
                            state.blocked_on = awaited
                            return
                        state.now = max(state.now, awaited.completed)
                case Exchange() | Collective() as post:
                    self._post(self.states[rank][post.entry], state.now)
            state.cursor += 1

    def _post(self, entry: State, now: float) -> None:
        entry.posted = now
        place = entry.rank, entry.post.communicator
        fifo = self.fifos.setdefault(place, deque())
        fifo.append(entry)
        if len(fifo) == 1:
            # The entries ahead may be complete already, but at a time later than this rank's.
            self._startable.append((entry, max(now, self._free_from.get(place, 0.0))))

    def _start(self, entry: State, now: float) -> None:
        entry.started = now
        entry.latest_start = now
        if isinstance(entry.post, Collective):
            self._gather(entry, entry.post)
        else:
            self._meet(entry, now)

    def _gather(self, entry: State, post: Collective) -> None:
        # Among roles several communicators have one name; those of a name have no member in common.
        members = self._gathered.setdefault((post.entry, post.ranks[0]), [])
        members.append(entry)
        if len(members) == len(post.ranks):
            lasts = max(self.durations(member.rank, member.post) for member in members)
            end = max(member.latest_start for member in members) + lasts
            for member in members:
                self._complete(member, end)

    def _meet(self, entry: State, now: float) -> None:
        entry.missing -= 1
        key = entry.post.entry
        for peer in entry.peers - {entry.rank}:
            other = self.states.get(peer, {}).get(key)
            # A pair meets if each end lists the other; what only one end lists never completes.
            if other is None or other.started is None or entry.rank not in other.peers:
                continue
            for state, start in ((entry, other.started), (other, now)):
                state.missing -= 1
                state.latest_start = max(state.latest_start, start)
            self._complete_if_met(other)
        self._complete_if_met(entry)

    def _complete_if_met(self, entry: State) -> None:
        if entry.missing == 0 and entry.completed is None:
            self._complete(entry, entry.latest_start + self.durations(entry.rank, entry.post))

    def _complete(self, entry: State, end: float) -> None:
        entry.completed = end
        place = entry.rank, entry.post.communicator
        self._free_from[place] = end
        fifo = self.fifos[place]
        fifo.popleft()
        if fifo:
            posted = fifo[0].posted
            assert posted is not None, "only posted entries stand in a FIFO"
            self._startable.append((fifo[0], max(posted, end)))
        if self._ranks[entry.rank].blocked_on is entry:
            self._runnable.append(entry.rank)


def _state(rank: int, post: Post) -> State:
    if isinstance(post, Collective):
        return State(rank, post, frozenset(), len(post.ranks))
    peers = post.peers
    # Its own part is one of a role's that meets ranks like itself.
    return State(rank, post, peers, len(peers | {rank}))
