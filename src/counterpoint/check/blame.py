"""Which ranks a stalled world waits for: a pure function of programs and of every rank's position.

A rank waits for ranks that have not begun a collective that it has begun, and for ranks that have not posted their part
of a transfer that it needs. The origin is a rank that does not answer, else one that waits for no other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from counterpoint.check.events import Collective, Event, Events, Exchange, Programs, Wait, expand
from counterpoint.check.machine import Machine, State
from counterpoint.plan.action import Action, Step
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import Schedule
from counterpoint.plan.tree import use_of

CONTROL, STORAGE = "control", "storage"
"""Trees of communicators over all active ranks in which the host itself waits, for objects and for checkpoints."""

STORING = ("resume", "checkpoint")
"""Phases that wait in the tree of checkpoints; elsewhere it works beside the step."""

PHASES = ("start-up", "resume", "reading", "training", "results", "recomputing", "evaluation", "checkpoint")
"""In the order in which a step passes through them."""


Program = tuple[str, int | None, int | None]
"""Phase, step and batch: they say which programs an index belongs to."""


@dataclass(frozen=True, slots=True)
class Position:
    """A rank's position.

    `index` is an action's in the program of (phase, step, batch), None outside of programs. A device that lags its host
    has reached the action `reached` of the program `device`. `calls` counts the collectives that the host has begun, by
    communicator. `left` is the seconds until the limit `key` of the rank's current action passes.
    """

    phase: str
    step: int | None = None
    batch: int | None = None
    part: str = ""
    action: str = ""
    index: int | None = None
    reached: int | None = None
    device: Program | None = None
    calls: Mapping[str, int] | None = None
    seconds: float = 0.0
    left: float = 0.0
    key: str = ""

    def __str__(self) -> str:
        """`step 3: language.0F1`, `step 4: evaluation held, batch 2: vision.0F0`, `start-up`."""
        words = [] if self.step is None else [f"step {self.step}"]
        if self.phase != "training" or not self.action:
            batch = "" if self.batch is None else f", batch {self.batch}"
            words.append(f"{self.phase}{' ' * bool(self.part)}{self.part}{batch}")
        if self.action:
            words.append(self.action)
        return ": ".join(words)

    @property
    def program(self) -> Program:
        """The program that the host is in."""
        return self.phase, self.step, self.batch

    @property
    def work(self) -> Program:
        """The program under way: the device's, if that lags the host."""
        return self.program if self.device is None else self.device

    @property
    def at(self) -> int | None:
        """The index of the action that is under way."""
        return self.index if self.device is None else self.reached


def _place(program: Program) -> tuple[int, int, int]:
    """A key by which programs and phases sort in time."""
    phase, step, batch = program
    number = PHASES.index(phase) if phase in PHASES else 0
    return (-1 if step is None else step), number, (-1 if batch is None else batch)


@dataclass(frozen=True, slots=True)
class Walk:
    """The programs of all ranks at one (phase, step, batch), and their events."""

    programs: Programs
    events: Events

    def action(self, rank: int, index: int) -> Action | None:
        """A rank's action at an index, None after its last action."""
        return self.programs[rank][index] if index < len(self.programs[rank]) else None

    def index(self, rank: int, action: Action | None) -> int | None:
        """The index of an action in a rank's program, None if it has none."""
        program = self.programs[rank]
        return program.index(action) if action is not None and action in program else None


def walk_of(plan: Plan, template: Schedule, batch: BatchPlan | None, ahead: BatchPlan | None) -> Walk:
    """The programs and events of all ranks in a step, or in a batch of an evaluation."""
    programs = plan.of_step(template, batch, ahead).programs
    return Walk(programs, expand(plan, programs, batch, ahead))


Positions = Mapping[int, Position | None]
"""Positions by rank, None for a rank that does not answer."""

_COLLECTIVE = "a collective on "

Waits = dict[int, dict[int, str]]
"""By rank, the ranks that it waits for, and at what."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ranks that keep others waiting, the likeliest first, and which rank waits for which.

    `kind` says why: `absent` ranks do not answer, `skipped` ones went past a collective that others are in, `apart`
    ones wait for each other in different collectives, `working` ones wait for no rank.
    """

    origins: tuple[int, ...]
    kind: str
    waits: Waits

    def waiting(self, rank: int) -> tuple[int, ...]:
        """The ranks that wait for a rank, directly or through others."""
        found = {rank}
        while True:
            more = {r for r, awaited in self.waits.items() if r not in found and found & awaited.keys()}
            if not more:
                return tuple(sorted(found - {rank}))
            found |= more


def find_origin(positions: Positions, members: Mapping[str, tuple[int, ...]], walks: Mapping[Program, Walk]) -> Verdict:
    """The ranks that keep a world waiting.

    `members` are the ranks of every communicator of collectives; `walks` may lack some programs.
    """
    here = {rank: position for rank, position in positions.items() if position is not None}
    waits: Waits = {rank: {} for rank in here}
    skipped: list[int] = []
    behind = _Behind(positions, members)
    for rank, position in here.items():
        for awaited, what in _by_calls(position, behind):
            waits[rank].setdefault(awaited, what)
            if awaited in here and _is_past(rank, position, awaited, here[awaited], walks):
                skipped.append(awaited)
    busy = _busy(here, waits)
    for program, walk in walks.items():
        reached = _reached(here, program, walk)
        transfers = tuple(_by_transfers(reached, walk))
        outside = frozenset(rank for rank, _awaited, _what in transfers)
        for rank, awaited, what in (*transfers, *_by_device(here, reached, program, walk, outside)):
            if rank not in busy:
                waits[rank].setdefault(awaited, what)
    absent = tuple(rank for rank, position in positions.items() if position is None)
    if absent:
        return Verdict(absent, "absent", waits)
    if skipped:
        return Verdict(tuple(dict.fromkeys(skipped)), "skipped", waits)
    free = [rank for rank in here if not waits[rank]]
    if not free:
        return _apart(here, waits, walks)
    awaited_ranks = {other for others in waits.values() for other in others}
    origins = [rank for rank in free if rank in awaited_ranks] or free
    origins += [rank for rank in free if rank not in origins and _is_beside(rank, origins, here, walks)]
    return Verdict(tuple(sorted(origins, key=lambda rank: here[rank].left)), "working", waits)


class _Behind(dict[tuple[str, int], tuple[int, ...]]):
    """By communicator and number, its members that have begun fewer collectives on it or do not answer.

    Members of a communicator ask for few different numbers: each is looked at a few times, not once by each other.
    """

    def __init__(self, positions: Positions, members: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self._positions, self._members = positions, members

    def __missing__(self, key: tuple[str, int]) -> tuple[int, ...]:
        name, count = key
        found = self[key] = tuple(rank for rank in self._members.get(name, ()) if self._lacks(rank, name, count))
        return found

    def _lacks(self, rank: int, name: str, count: int) -> bool:
        position = self._positions.get(rank)
        return position is None or (position.calls or {}).get(name, 0) < count


def _by_calls(position: Position, behind: _Behind) -> Iterator[tuple[int, str]]:
    """Members of a communicator that have begun fewer collectives on it than a rank at this position."""
    for name, count in (position.calls or {}).items():
        if use_of(name) == STORAGE and position.phase not in STORING:
            continue
        if position.device is not None and use_of(name) not in (CONTROL, STORAGE):
            # A host that works ahead of its device waits in no collective.
            continue
        # The rank itself has begun as many.
        for other in behind[name, count]:
            yield other, f"{_COLLECTIVE}{name}"


def _busy(here: Mapping[int, Position], waits: Waits) -> frozenset[int]:
    """Ranks outside of programs whose hosts keep others waiting in a collective and wait in none themselves; a host in
    a program may be waiting for its device."""
    awaited = {other for others in waits.values() for other in others}
    return frozenset(r for r, position in here.items() if r in awaited and not waits[r] and position.index is None)


def _is_past(rank: int, position: Position, other: int, theirs: Position, walks: Mapping[Program, Walk]) -> bool:
    """Whether `other` is past the collective in which `rank` waits for it."""
    if position.program != theirs.program:
        return _place(theirs.program) > _place(position.program)
    walk = walks.get(position.program)
    if walk is None or position.index is None or theirs.index is None:
        return False
    place = walk.index(other, walk.action(rank, position.index))
    return place is not None and theirs.index > place


def _is_beside(rank: int, origins: Sequence[int], here: Mapping[int, Position], walks: Mapping[Program, Walk]) -> bool:
    """Whether a rank's device is in an origin's action and shares a collective of it: either may be first."""
    position = here[rank]
    walk = walks.get(position.work)
    if position.device is None or position.reached is None or walk is None:
        return False
    action = walk.action(rank, position.reached)
    shared = [e.ranks for e in walk.events[rank] if isinstance(e, Collective) and e.action == action]
    return any(
        other in ranks and here[other].work == position.work and here[other].action == position.action
        for ranks in shared
        for other in origins
    )


def _apart(here: Mapping[int, Position], waits: Waits, walks: Mapping[Program, Walk]) -> Verdict:
    """The verdict if all ranks wait: of two that wait for each other in one action, one skipped a collective."""
    pairs = [(a, b) for a in waits for b in waits[a] if a < b and a in waits.get(b, {})]
    for one, other in pairs:
        walk = walks.get(here[one].program)
        if not here[one].action == here[other].action == str(Step()):
            continue
        for first, second in ((one, other), (other, one)):
            if walk is not None and _order(walk, second, waits[first][second]) < _order(
                walk, second, waits[second][first]
            ):
                return Verdict((second,), "skipped", waits)
    found = tuple(dict.fromkeys(rank for pair in pairs for rank in pair))
    return Verdict(found or tuple(here), "apart", waits)


def _order(walk: Walk, rank: int, what: str) -> int:
    """The place of a communicator in a rank's step end, where each collective has its own communicator; else -1."""
    names = [e.communicator for e in walk.events[rank] if isinstance(e, Collective) and e.action == Step()]
    name = what.removeprefix(_COLLECTIVE)
    return names.index(name) if name in names else -1


def _reached(here: Mapping[int, Position], program: Program, walk: Walk) -> dict[int, int]:
    """The index that every rank has reached in a program; ranks that have not begun it are left out."""
    found = {}
    for rank, position in here.items():
        if position.work == program and position.at is not None:
            found[rank] = position.at
        elif _place(position.work) > _place(program):
            found[rank] = len(walk.programs[rank])
    return found


def _by_transfers(reached: Mapping[int, int], walk: Walk) -> Iterator[tuple[int, int, str]]:
    """Ranks that have not posted their part of a transfer that another rank's action needs, by the machine's rules."""
    machine = Machine({rank: tuple(_until(walk, rank, at)) for rank, at in reached.items()})
    for rank, (_action, entry) in machine.stuck.items():
        for other, late in _late(machine, entry, set()):
            yield rank, other, str(late)


def _by_device(
    here: Mapping[int, Position], reached: Mapping[int, int], program: Program, walk: Walk, outside: frozenset[int]
) -> Iterator[tuple[int, int, str]]:
    """Members of a collective of the action that a rank's device is at, whose devices have not reached it.

    Those are before that action, or `outside`: they wait for the transfers that it begins with.
    """
    for rank, at in reached.items():
        action = walk.action(rank, at)
        if here[rank].device != program or action is None:
            continue
        for event in walk.events[rank]:
            if not isinstance(event, Collective) or event.action != action:
                continue
            for other in event.ranks:
                place = walk.index(other, action)
                if other == rank or other not in here or place is None:
                    continue
                theirs = reached.get(other, -1)
                is_late = other in outside or _lacks(here[other], here[rank], event.communicator)
                if rank not in outside and (theirs < place or (theirs == place and is_late)):
                    yield rank, other, str(action)


def _lacks(theirs: Position, position: Position, name: str) -> bool:
    return (theirs.calls or {}).get(name, 0) < (position.calls or {}).get(name, 0)


def _until(walk: Walk, rank: int, at: int) -> Iterator[Event]:
    """The transfers before a rank's action, and what the action waits for."""
    before, here = frozenset(walk.programs[rank][:at]), walk.action(rank, at)
    posted: set[object] = set()
    for event in walk.events[rank]:
        match event:
            case Exchange(action=action) if action in before:
                posted.add(event.entry)
                yield event
            case Wait(action=action, entries=entries) if action == here:
                transfers = tuple(entry for entry in entries if entry in posted)
                if transfers:
                    yield Wait(action, transfers)


def _late(machine: Machine, entry: State, seen: set[int]) -> Iterator[tuple[int, Action]]:
    """The ranks that have not posted what an entry needs, and the transfers that they have not posted."""
    if id(entry) in seen:
        return
    seen.add(id(entry))
    if entry.started is None:
        yield from _late(machine, machine.fifos[entry.rank, entry.post.communicator][0], seen)
        return
    assert isinstance(entry.post, Exchange), "only transfers are played"
    for peer in sorted(entry.post.peers):
        other = machine.states.get(peer, {}).get(entry.post.entry)
        if other is None:
            yield peer, entry.post.action
        elif other.started is None:
            yield from _late(machine, other, seen)
