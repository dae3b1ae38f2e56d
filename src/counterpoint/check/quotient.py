"""The events of roles: those of the lowest rank of each, in which peers and members are roles."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from counterpoint.check.contacts import Contact, contacts_of
from counterpoint.check.events import Events, Flow, Part, Programs, Shared, columns_of, walk
from counterpoint.check.roles import Roles
from counterpoint.plan.action import Direction, Transfer
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.communicators import column_kind
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.slots import Axis


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


_Where = tuple[int, bool, int, int]
"""A rank or role, whether it sends, the role that it meets, and the round."""

_ByDirection = tuple[dict[_Where, int], dict[_Where, int]]
"""Rows of forward, and of backward."""


class _Rows:
    """The most rows that a rank of a role sends to all ranks of another, or receives from them, by exchange."""

    def __init__(self, plan: Plan, roles: Roles, batch: BatchPlan | None, ahead: BatchPlan | None) -> None:
        self._plan, self._roles, self._batch, self._ahead = plan, roles, batch, ahead
        self._known: dict[tuple[Link, int, bool], _ByDirection] = {}

    def of(self, action: Transfer) -> dict[_Where, int] | None:
        """Rows of roles; None without a batch."""
        batch = self._ahead if action.ahead else self._batch
        if batch is None:
            return None
        key = action.link, action.exchange, bool(action.ahead) and batch is not self._batch
        if key not in self._known:
            most = self._most(batch, action)
            # Gradients go back along the route of the rows.
            self._known[key] = most, {(a, not out, b, number): n for (a, out, b, number), n in most.items()}
        return self._known[key][action.direction is not Direction.FORWARD]

    def _most(self, batch: BatchPlan, action: Transfer) -> dict[_Where, int]:
        """The most rows in forward."""
        role_of, rounds = self._roles.role, self._plan.rounds[action.link]
        by_rank: dict[_Where, int] = {}
        for (sender, receiver), rows in self._plan.rows_between(batch, action.link, action.exchange).items():
            number = rounds.round(sender, receiver)
            for key in ((sender, True, role_of(receiver), number), (receiver, False, role_of(sender), number)):
                by_rank[key] = by_rank.get(key, 0) + rows
        most: dict[_Where, int] = {}
        for (rank, sends, other, number), rows in by_rank.items():
            key = role_of(rank), sends, other, number
            most[key] = max(most.get(key, 0), rows)
        return most


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
        seen: set[Contact] = set()
        for rank in self.roles.ranks(role):
            contact = self.contacts.of[rank][place]
            if contact not in seen:
                seen.add(contact)
                counts = self._of_contact(contact, role)
                for other, count in counts.items():
                    found.setdefault(other, count if rank == role else 0)
        return dict(sorted(found.items()))

    def _of_contact(self, contact: Contact, role: int) -> Counter[int]:
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
        self._carriers: dict[Link, str] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self._kind.nodes

    def group(self, axis: Axis) -> Shared | None:
        slot = self._kind.slots.of.get(axis)
        return None if slot is None else Shared(self._kind.slots.names[slot], self._met.group(self._role, slot))

    def channel(self, link: Link, direction: Direction) -> str:
        if link not in self._carriers:
            self._carriers[link] = column_kind(self._plan.placement, link) if link.is_hop else str(link)
        return f"{self._carriers[link]}{direction.value}"

    def parts(self, action: Transfer) -> Sequence[Part]:
        key = (action.link, action.direction)
        if key not in self._known:
            self._known[key] = tuple(self._parts(*key))
        rows = self._rows.of(action)
        return self._known[key] if rows is None else [self._filled(part, rows) for part in self._known[key]]

    def _filled(self, part: Part, rows: Mapping[_Where, int]) -> Part:
        """A round with the rows of a batch."""
        number, *both = part
        sends, receives = (
            tuple(replace(flow, rows=rows.get((self._role, is_sender, flow.peer, number), 0)) for flow in flows)
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
