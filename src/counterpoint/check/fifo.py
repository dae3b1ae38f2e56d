"""The proof that a step ends: an order that completes every entry of every FIFO, or the cycle of waits."""

from counterpoint.check.events import Collective, Events
from counterpoint.check.fault import Fault
from counterpoint.check.machine import Machine, State
from counterpoint.plan.action import Action


def check_fifos(events: Events) -> Fault | None:
    """Play the events; a fault names the ranks that are stuck, where, and the cycle in words."""
    machine = Machine(events)
    if not machine.stuck:
        return _unawaited(machine)
    links, marks = _explain(machine)
    ranks = ", ".join(f"{rank} at {action}" for rank, (action, _entry) in sorted(machine.stuck.items())[:8])
    more = f" and {len(machine.stuck) - 8} more" if len(machine.stuck) > 8 else ""
    return Fault(
        f"no rank can go on: stuck are rank {ranks}{more}, because {'; '.join(links)}; expected an order of "
        "completion for everything posted; post what shares a communicator in the same order on all of its "
        "ranks",
        marks,
    )


def _unawaited(machine: Machine) -> Fault | None:
    for entry in machine.unfinished:
        return Fault(
            f"{_name(entry)} on {entry.post.communicator} never completes and no rank waits for it, "
            "expected the step to wait for everything posted; give every program the step action S",
            ((entry.rank, entry.post.action),),
        )
    return None


def _explain(machine: Machine) -> tuple[list[str], tuple[tuple[int, Action], ...]]:
    """Which entry waits for which until one repeats: clauses and places of the cycle."""
    rank = min(machine.stuck)
    action, entry = machine.stuck[rank]
    seen: dict[int, int] = {}
    clauses: list[str] = []
    places: list[tuple[int, Action]] = []
    following: State | None = entry
    clauses.append(f"rank {rank} at {action} waits for {_name(entry)}")
    places.append((rank, action))
    while following is not None and id(following) not in seen:
        seen[id(following)] = len(clauses)
        clause, place, following = _next(machine, following)
        clauses.append(clause)
        places.append(place)
    if following is not None:
        first = seen[id(following)]
        clauses, places = clauses[first:], places[first:]
        clauses.append("and so in a circle")
    marks = dict.fromkeys(places)
    return clauses, tuple(marks)


def _next(machine: Machine, entry: State) -> tuple[str, tuple[int, Action], State | None]:
    """Why an entry is not complete: a clause, the place to mark, and the entry it depends on, if any."""
    rank, post = entry.rank, entry.post
    if entry.posted is None:
        if rank not in machine.stuck:
            return f"rank {rank} ends without it", (rank, post.action), None
        action, awaited = machine.stuck[rank]
        clause = f"rank {rank} has not posted {post.action}: at {action} it waits for {_name(awaited)}"
        return clause, (rank, action), awaited
    if entry.started is None:
        ahead = machine.fifos[rank, post.communicator][0]
        clause = f"{_name(entry)} is queued after {ahead.post.action} on {post.communicator}"
        return clause, (rank, post.action), ahead
    members = post.ranks if isinstance(post, Collective) else tuple(sorted(post.peers))
    late = next(member for member in members if not _has_started(machine, member, entry))
    other = machine.states.get(late, {}).get(post.entry)
    if other is None:
        return f"{_name(entry)} waits for rank {late}, which never posts it", (rank, post.action), None
    return f"{_name(entry)} waits for rank {late} to start it", (rank, post.action), other


def _has_started(machine: Machine, member: int, entry: State) -> bool:
    other = machine.states.get(member, {}).get(entry.post.entry)
    return other is not None and other.started is not None


def _name(entry: State) -> str:
    return f"{entry.post.action} of rank {entry.rank}"
