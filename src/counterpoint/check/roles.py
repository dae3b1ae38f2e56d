"""Roles: ranks that do the same, and the events of one of each.

Ranks are coloured. A role is a colour; its events are those of its lowest rank, in which peers and members are roles
instead of ranks, and communicators have the names of their patterns (`plan.slots`). Ranks of a role have the same
program, nodes, slots and numbers of sends and receives, so their events differ in nothing else.

What is proved of roles holds for ranks, for any colouring. A role waits for all roles that any of its ranks waits for.
So where an event of one rank waits for one of another, the same event of its role waits for that of the other's role,
and a cycle of waiting ranks would be a closed walk among roles, which contains a cycle.

The converse holds where the colouring is stable: where at each post all ranks of a role meet ranks of the same roles.
Then each rank of a role waits for a rank of every role that its role waits for. So a cycle of roles can be walked
backwards among ranks without end, and as there are finitely many of them, it repeats one. The clock of a role is then
that of each of its ranks, if they cost the same.
"""

from collections import Counter
from collections.abc import Mapping, Set

from counterpoint.check.contacts import Kind, contacts_of
from counterpoint.check.events import (
    Collective,
    Events,
    Post,
    Programs,
    Run,
    Wait,
)
from counterpoint.plan.action import Action, Direction
from counterpoint.plan.communicators import collective_name, transfer_name
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import distinct


class Ranks:
    """Every rank is a role of its own: events name ranks and communicators as they are."""

    def role(self, rank: int) -> int:
        """The role of a rank, named after its lowest rank."""
        return rank

    def ranks(self, role: int) -> tuple[int, ...]:
        """The ranks of a role, ascending."""
        return (role,)

    def members(self, _rank: int, post: Post) -> tuple[int, ...]:
        """The ranks without which a rank's part of a post cannot complete."""
        return post.ranks if isinstance(post, Collective) else tuple(sorted(post.peers))

    def name(self, _rank: int, post: Post) -> str:
        """The communicator of a rank's post."""
        return post.communicator

    def count_communicators(self, events: Events) -> int:
        """Number of communicators on which ranks post."""
        posts = (event for stream in events.values() for event in stream if not isinstance(event, Wait | Run))
        return len({post.communicator for post in posts})


RANKS = Ranks()


class Roles(Ranks):
    """A colouring of the ranks of a plan: `by_role` maps the lowest rank of each role to all of its ranks."""

    def __init__(self, plan: Plan, colours: Mapping[int, int]) -> None:
        by_colour: dict[int, list[int]] = {}
        for rank in sorted(colours):
            by_colour.setdefault(colours[rank], []).append(rank)
        self._plan = plan
        self.by_role = {ranks[0]: tuple(ranks) for ranks in by_colour.values()}
        self._role_of = {rank: role for role, ranks in self.by_role.items() for rank in ranks}

    def role(self, rank: int) -> int:
        return self._role_of[rank]

    def ranks(self, role: int) -> tuple[int, ...]:
        return self.by_role[role]

    def members(self, rank: int, post: Post) -> tuple[int, ...]:
        if isinstance(post, Collective):
            return self._plan.slots.ranks(rank, post.communicator)
        link, direction = post.action.link, post.action.direction
        rounds, ends = self._plan.rounds[link], self._plan.peers(link, direction, rank)
        if direction is Direction.BACKWARD:
            ends = (ends[1], ends[0])
        to = (peer for peer in ends[0] if rounds.round(rank, peer) == post.round)
        back = (peer for peer in ends[1] if rounds.round(peer, rank) == post.round)
        return tuple(sorted({*to, *back}))

    def name(self, rank: int, post: Post) -> str:
        if isinstance(post, Collective):
            return collective_name(self.members(rank, post))
        return transfer_name(self._plan.placement, post.action.link, post.action.direction, rank)

    def count_communicators(self, events: Events) -> int:
        contacts, found = contacts_of(self._plan), set[tuple[str, int]]()
        for role, stream in events.items():
            posts = {event.communicator: event for event in stream if not isinstance(event, Wait | Run)}
            for name, post in posts.items():
                if isinstance(post, Collective):
                    slot = contacts.kinds[role].slots.names.index(name)
                    found |= {("", contacts.of[rank][slot][0]) for rank in self.ranks(role)}
                elif post.action.link.is_hop:
                    layout = self._plan.layouts[post.action.link.source.module]
                    found |= {(name, layout.line("pp", layout.index(rank))[0]) for rank in self.ranks(role)}
                else:
                    found.add((name, 0))
        return len(found)

    def programs(self, programs: Programs) -> dict[int, tuple[Action, ...]]:
        """The program of each role."""
        return {role: programs[role] for role in self.by_role}


def coarse(plan: Plan, programs: Programs) -> Roles:
    """The fewest roles: ranks of one program and kind."""
    contacts = contacts_of(plan)
    numbers: dict[tuple[Action, ...], int] = {}
    by_id = {id(program): numbers.setdefault(program, len(numbers)) for program in distinct(programs)}
    colours: dict[tuple[int, Kind], int] = {}
    keys = {rank: (by_id[id(program)], contacts.kinds[rank]) for rank, program in programs.items()}
    return Roles(plan, {rank: colours.setdefault(key, rank) for rank, key in keys.items()})


def refine(plan: Plan, roles: Roles, only: Set[int] | None = None) -> Roles:
    """Split roles whose ranks meet ranks of other roles, or other numbers of them; the same roles if none does.

    By default any roles, else those in `only`.
    """
    contacts = contacts_of(plan)
    colour = {rank: role for role, ranks in roles.by_role.items() for rank in ranks}
    numbers: dict[tuple[tuple[int, int], ...], int] = {}

    def numbered(counts: Counter[int]) -> int:
        return numbers.setdefault(tuple(sorted(counts.items())), len(numbers))

    counted = [Counter[int]() for _set in contacts.sets]
    for counts, parts in zip(counted, contacts.sets, strict=True):
        for part in parts:
            counts.update(map(colour.__getitem__, part))
    alike = [numbered(counts) for counts in counted]
    without: dict[tuple[int, int], int] = {}
    seen: dict[tuple[int, ...], int] = {}
    colours: dict[int, int] = {}
    for rank, own in colour.items():
        if only is not None and own not in only:
            seen[own,] = colours[rank] = own
            continue
        groups = len(contacts.kinds[rank].slots.names)
        key = [own]
        for place, (number, has_itself) in enumerate(contacts.of[rank]):
            if place < groups or not has_itself:
                key.append(alike[number])
                continue
            if (number, own) not in without:
                without[number, own] = numbered(counted[number] - Counter((own,)))
            key.append(without[number, own])
        colours[rank] = seen.setdefault(tuple(key), rank)
    return roles if len(seen) == len(roles.by_role) else Roles(plan, colours)


def stable(plan: Plan, roles: Roles) -> Roles:
    """The coarsest refinement of roles in which all ranks of a role meet as many ranks of each role at each post."""
    while (finer := refine(plan, roles)) is not roles:
        roles = finer
    return roles
