"""Roles: ranks that do the same, and the events of one of each.

Ranks are coloured. A role is a colour; its events are those of its lowest rank, in which peers and members are roles
instead of ranks, and communicators have the names of their patterns (`plan.slots`). Ranks of a role have the same
program, nodes, slots and numbers of sends and receives, so their events differ in nothing else.

What is proved of roles holds for ranks, for any colouring. If a role waits for all roles that any of its ranks waits
for, then a rank's event that waits for another is an event of its role that waits for the other's. So a cycle of waiting
ranks would be a closed walk among roles, which contains a cycle. The converse holds where the colouring is stable: where
for each post all ranks of a role have peers of the same roles. Then whatever role a role waits for, each of its ranks
waits for a rank of it; so a cycle of roles can be walked backwards among ranks without end, and there are finitely many
of them. Then the clock is the same for all ranks of a role, too, if their costs are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from counterpoint.check.events import (
    Collective,
    Events,
    Flow,
    Part,
    Post,
    Programs,
    Run,
    Shared,
    Wait,
    columns_of,
    rows_of,
    walk,
)
from counterpoint.plan.action import Action, Direction, Transfer
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.communicators import collective_name, column_kind, transfer_name
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.peers import Rounds, place_of
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import distinct
from counterpoint.plan.slots import Axis, Slots


class Ranks:
    """Every rank is a role of its own: events name ranks and communicators as they are."""

    def role(self, rank: int) -> int:
        """The role of a rank, named after its lowest rank."""
        return rank

    def ranks(self, role: int) -> tuple[int, ...]:
        """The ranks of a role, ascending."""
        return (role,)

    def members(self, rank: int, post: Post) -> tuple[int, ...]:
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


@dataclass(frozen=True, slots=True)
class _Meeting:
    """Where a rank meets others at a link, in a round, as sender or receiver in forward, and how many they are."""

    link: int
    round: int
    is_sender: bool
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """What ranks have in common that could be of one role, whatever their programs: nodes, slots, and meetings.

    `contacts` of a rank are its groups in the order of the slots, then whom it meets in the order of `meetings`.
    """

    nodes: tuple[Node, ...]
    slots: Slots
    meetings: tuple[_Meeting, ...]


_Contact = tuple[int, bool]
"""The number of a set of ranks, and whether the rank itself is among them."""


class Contacts:
    """Whom every rank of a plan meets, by sets of ranks that many of them share."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.links = plan.stages.links
        self.sets: list[tuple[tuple[int, ...], ...]] = [(group,) for group in plan.slots.groups]
        self._numbers: dict[tuple[int, bool, tuple[range, ...]], int] = {}
        self.kinds: dict[int, _Kind] = {}
        self.of: dict[int, tuple[_Contact, ...]] = {}
        self._known: dict[tuple[int, Slots, tuple[_Meeting, ...]], _Kind] = {}
        touching = {
            nodes: [
                (number, link, plan.rounds[link])
                for number, link in enumerate(self.links)
                if link.source in nodes or link.target in nodes
            ]
            for nodes in plan.stages.by_nodes
        }
        for nodes, ranks in plan.stages.by_nodes.items():
            for rank in ranks:
                self._add(rank, nodes, touching[nodes])

    def _add(self, rank: int, nodes: tuple[Node, ...], links: list[tuple[int, Link, Rounds]]) -> None:
        slots, groups = self._plan.slots.of(rank)
        meetings: list[_Meeting] = []
        contacts: list[_Contact] = [(group, True) for group in groups]
        for number, _link, rounds in links:
            pattern = rounds.pattern
            for is_sender in (True, False):
                own, other = (pattern.senders, pattern.receivers)[:: 1 if is_sender else -1]
                place = place_of(own, rank)
                if place is None:
                    continue
                at = place_of(other, rank)
                by_round: dict[int, list[range]] = {}
                for numbered, places in rounds.parts(place, is_sender=is_sender):
                    by_round.setdefault(numbered, []).append(places)
                for numbered, parts in by_round.items():
                    has_itself = at is not None and any(at in places for places in parts)
                    count = sum(map(len, parts)) - has_itself
                    if count:
                        meetings.append(_Meeting(number, numbered, is_sender, count))
                        contacts.append((self._set(number, is_sender, tuple(parts), other), has_itself))
        key = (id(nodes), slots, tuple(meetings))
        if key not in self._known:
            self._known[key] = _Kind(nodes, slots, key[2])
        self.kinds[rank] = self._known[key]
        self.of[rank] = tuple(contacts)

    def _set(self, link: int, is_sender: bool, places: tuple[range, ...], ranks: tuple[int, ...]) -> int:
        key = (link, is_sender, places)
        if key not in self._numbers:
            self._numbers[key] = len(self.sets)
            self.sets.append(tuple(ranks[part.start : part.stop] for part in places))
        return self._numbers[key]


def contacts_of(plan: Plan) -> Contacts:
    """The contacts of a plan, found once."""
    found = plan.remembered.get("contacts")
    if not isinstance(found, Contacts):
        found = plan.remembered["contacts"] = Contacts(plan)
    return found


def coarse(plan: Plan, programs: Programs) -> Roles:
    """The fewest roles: ranks of one program and kind."""
    contacts = contacts_of(plan)
    numbers: dict[tuple[Action, ...], int] = {}
    by_id = {id(program): numbers.setdefault(program, len(numbers)) for program in distinct(programs)}
    colours: dict[tuple[int, _Kind], int] = {}
    keys = {rank: (by_id[id(program)], contacts.kinds[rank]) for rank, program in programs.items()}
    return Roles(plan, {rank: colours.setdefault(key, rank) for rank, key in keys.items()})


def refine(plan: Plan, roles: Roles) -> Roles:
    """Split roles whose ranks meet ranks of other roles, or other numbers of them; the same roles if none does."""
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


def expand_roles(
    plan: Plan,
    programs: Programs,
    roles: Roles,
    batch: BatchPlan | None = None,
    ahead: BatchPlan | None = None,
    *,
    is_template: bool = True,
) -> Events:
    """The events of each role; with `is_template` all that any batch could keep, see `expand_template`.

    With a batch a flow has the most rows that any rank of the role exchanges with ranks of the other, and roles that a
    batch does not bring together meet nevertheless.
    """
    met = _Met(plan, roles)
    rows = _Rows(plan, roles, batch, ahead)
    return {
        role: walk(plan, programs[role], _OfRole(plan, met, rows, role), is_template=is_template)
        for role in roles.by_role
    }


class _Rows:
    """The most rows that a rank of a role sends to ranks of another, or receives from them, by exchange."""

    def __init__(self, plan: Plan, roles: Roles, batch: BatchPlan | None, ahead: BatchPlan | None) -> None:
        self._plan, self._roles, self._batch, self._ahead = plan, roles, batch, ahead
        self._known: dict[Transfer, dict[tuple[int, bool, int], int]] = {}

    def of(self, action: Transfer) -> dict[tuple[int, bool, int], int] | None:
        """Rows by (role, whether it sends, role that it meets); None without a batch."""
        batch = self._ahead if action.ahead else self._batch
        if batch is None:
            return None
        if action not in self._known:
            by_rank: dict[tuple[int, bool, int], int] = {}
            for (sender, receiver), rows in rows_of(self._plan, action, batch).items():
                for key in ((sender, True, self._roles.role(receiver)), (receiver, False, self._roles.role(sender))):
                    by_rank[key] = by_rank.get(key, 0) + rows
            most = self._known[action] = {}
            for (rank, sends, other), rows in by_rank.items():
                key = self._roles.role(rank), sends, other
                most[key] = max(most.get(key, 0), rows)
        return self._known[action]


class _Met:
    """The roles that roles meet: those that any of their ranks meets, with the numbers that the lowest rank meets."""

    def __init__(self, plan: Plan, roles: Roles) -> None:
        self.contacts, self.roles = contacts_of(plan), roles
        self._counted: dict[int, Counter[int]] = {}
        self._components = self._join()

    def group(self, role: int, slot: int) -> tuple[int, ...]:
        """The roles of the communicators of a role's slot, and those that these share it with, and so on."""
        return self._components[self.contacts.kinds[role].slots.names[slot], role]

    def meeting(self, role: int, number: int) -> dict[int, int]:
        """The roles of a role's meeting, ascending, with the number of ranks that its lowest rank meets."""
        place = len(self.contacts.kinds[role].slots.names) + number
        found: dict[int, int] = {}
        seen: set[_Contact] = set()
        for rank in self.roles.ranks(role):
            contact = self.contacts.of[rank][place]
            if contact not in seen:
                seen.add(contact)
                counts = self._of_contact(contact, role)
                for other, count in counts.items():
                    found.setdefault(other, count if rank == role else 0)
        return dict(sorted(found.items()))

    def _of_contact(self, contact: _Contact, role: int) -> Counter[int]:
        number, has_itself = contact
        counts = self._of_set(number)
        return counts - Counter((role,)) if has_itself else counts

    def _of_set(self, number: int) -> Counter[int]:
        if number not in self._counted:
            parts = self.contacts.sets[number]
            self._counted[number] = Counter(self.roles.role(rank) for part in parts for rank in part)
        return self._counted[number]

    def _join(self) -> dict[tuple[str, int], tuple[int, ...]]:
        """For each name of a slot, the sets of roles that are joined by communicators of that name."""
        parents: dict[tuple[str, int], tuple[str, int]] = {}

        def root(key: tuple[str, int]) -> tuple[str, int]:
            while (parent := parents.setdefault(key, key)) != key:
                parents[key] = parents[parent]
                key = parents[key]
            return key

        for role, ranks in self.roles.by_role.items():
            for slot, name in enumerate(self.contacts.kinds[role].slots.names):
                for number in {self.contacts.of[rank][slot][0] for rank in ranks}:
                    for other in self._of_set(number):
                        parents[root((name, other))] = root((name, role))
        joined: dict[tuple[str, int], list[int]] = {}
        for name, role in parents:
            joined.setdefault(root((name, role)), []).append(role)
        tuples = {key: tuple(sorted(members)) for key, members in joined.items()}
        return {key: tuples[root(key)] for key in list(parents)}


class _OfRole:
    """The surroundings of a role among roles."""

    def __init__(self, plan: Plan, met: _Met, rows: _Rows, role: int) -> None:
        self._plan, self._met, self._rows, self._role = plan, met, rows, role
        self._kind = met.contacts.kinds[role]
        self._known: dict[tuple[Link, Direction], Sequence[Part]] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self._kind.nodes

    def group(self, axis: Axis) -> Shared | None:
        slot = self._kind.slots.of.get(axis)
        return None if slot is None else Shared(self._kind.slots.names[slot], self._met.group(self._role, slot))

    def channel(self, link: Link, direction: Direction) -> str:
        return f"{column_kind(self._plan.placement, link) if link.is_hop else link}{direction}"

    def parts(self, action: Transfer) -> Sequence[Part]:
        key = (action.link, action.direction)
        if key not in self._known:
            self._known[key] = tuple(self._parts(*key))
        rows = self._rows.of(action)
        return self._known[key] if rows is None else [self._filled(part, rows) for part in self._known[key]]

    def _filled(self, part: Part, rows: Mapping[tuple[int, bool, int], int]) -> Part:
        """A round with the rows of a batch, as if they all went in it."""
        number, *both = part
        sends, receives = (
            tuple(replace(flow, rows=rows.get((self._role, is_sender, flow.peer), 0)) for flow in flows)
            for is_sender, flows in zip((True, False), both, strict=True)
        )
        return number, sends, receives

    def _parts(self, link: Link, direction: Direction) -> Iterator[Part]:
        columns, dtype = columns_of(self._plan, link, direction), self._plan.dtype
        by_round: dict[int, tuple[list[Flow], list[Flow]]] = {}
        for number, meeting in enumerate(self._kind.meetings):
            if self._met.contacts.links[meeting.link] != link:
                continue
            sends = meeting.is_sender is (direction is Direction.FORWARD)
            flows = by_round.setdefault(meeting.round, ([], []))[0 if sends else 1]
            for other, count in self._met.meeting(self._role, number).items():
                flows.append(Flow(other, None, columns[0 if sends else 1], dtype, count))
        for number in sorted(by_round) or [0]:
            out, into = by_round.get(number, ([], []))
            yield number, tuple(out), tuple(into)
