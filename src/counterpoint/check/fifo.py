"""The proof that a step ends: an order that completes every entry of every FIFO, or the cycle of waits."""

from dataclasses import dataclass

from counterpoint.check.events import Collective, Events, Post
from counterpoint.check.fault import Fault
from counterpoint.check.machine import Machine, State
from counterpoint.check.roles import RANKS, Ranks
from counterpoint.plan.action import Action


def check_fifos(events: Events, roles: Ranks = RANKS) -> Fault | None:
    """Play the events; a fault names the ranks that are stuck, where, and the cycle in words."""
    machine = Machine(events)
    if not machine.stuck:
        return _unawaited(machine, roles)
    links, marks = _Explanation(machine, roles).circle()
    stuck = sorted((rank, action) for role, (action, _entry) in machine.stuck.items() for rank in roles.ranks(role))
    ranks = ", ".join(f"{rank} at {action}" for rank, action in stuck[:8])
    more = f" and {len(stuck) - 8} more" if len(stuck) > 8 else ""
    return Fault(
        f"no rank can go on: stuck are rank {ranks}{more}, because {'; '.join(links)}; expected an order of "
        "completion for everything posted; post what shares a communicator in the same order on all of its "
        "ranks",
        marks,
    )


def _unawaited(machine: Machine, roles: Ranks) -> Fault | None:
    for entry in machine.unfinished:
        return Fault(
            f"{_name(entry.rank, entry)} on {roles.name(entry.rank, entry.post)} never completes and no rank waits for "
            "it, expected the step to wait for everything posted; give every program the step action S",
            ((entry.rank, entry.post.action),),
        )
    return None


_Place = tuple[int, Action]


@dataclass(frozen=True, slots=True)
class _Explanation:
    """Which entry of which rank waits for which, followed from rank to rank through the states of their roles."""

    machine: Machine
    roles: Ranks

    def circle(self) -> tuple[list[str], tuple[_Place, ...]]:
        """Clauses and places of the way from the first stuck rank until an entry repeats."""
        rank = min(self.machine.stuck)
        action, entry = self.machine.stuck[rank]
        seen: dict[tuple[int, int], int] = {}
        clauses = [f"rank {rank} at {action} waits for {_name(rank, entry)}"]
        places: list[_Place] = [(rank, action)]
        following: tuple[int, State] | None = (rank, entry)
        while following is not None and (following[0], id(following[1])) not in seen:
            seen[following[0], id(following[1])] = len(clauses)
            clause, place, following = self._next(*following)
            clauses.append(clause)
            places.append(place)
        if following is not None:
            first = seen[following[0], id(following[1])]
            clauses, places = clauses[first:], places[first:]
            clauses.append("and so in a circle")
        return clauses, tuple(dict.fromkeys(places))

    def _next(self, rank: int, entry: State) -> tuple[str, _Place, tuple[int, State] | None]:
        """Why a rank's entry is not complete: a clause, the place to mark, and what it depends on, if anything."""
        machine, post = self.machine, entry.post
        if entry.posted is None:
            if entry.rank not in machine.stuck:
                return f"rank {rank} ends without it", (rank, post.action), None
            action, awaited = machine.stuck[entry.rank]
            clause = f"rank {rank} has not posted {post.action}: at {action} it waits for {_name(rank, awaited)}"
            return clause, (rank, action), (rank, awaited)
        if entry.started is None:
            ahead = machine.fifos[entry.rank, post.communicator][0]
            name = self.roles.name(rank, post)
            clause = f"{_name(rank, entry)} is queued after {ahead.post.action} on {name}"
            return clause, (rank, post.action), (rank, ahead)
        # Where the colouring is not stable only another rank of the role may wait.
        late = next(
            (m for m in self.roles.members(rank, post) if not self._has_started(self.roles.role(m), entry)), None
        )
        if late is None:
            late = next(r for r in (*entry.peers, *_members(post)) if not self._has_started(r, entry))
        other = machine.states.get(self.roles.role(late), {}).get(post.entry)
        if other is None:
            return f"{_name(rank, entry)} waits for rank {late}, which never posts it", (rank, post.action), None
        return f"{_name(rank, entry)} waits for rank {late} to start it", (rank, post.action), (late, other)

    def _has_started(self, role: int, entry: State) -> bool:
        other = self.machine.states.get(role, {}).get(entry.post.entry)
        return other is not None and other.started is not None


def _members(post: Post) -> tuple[int, ...]:
    return post.ranks if isinstance(post, Collective) else ()


def _name(rank: int, entry: State) -> str:
    return f"{entry.post.action} of rank {rank}"
