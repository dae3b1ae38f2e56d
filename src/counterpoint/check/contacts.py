"""Whom every rank meets: its groups, and its peers at each link and round, as sets that many ranks share."""

from dataclasses import dataclass

from counterpoint.plan.graph import Link, Node
from counterpoint.plan.peers import Rounds, place_of
from counterpoint.plan.plan import Plan
from counterpoint.plan.slots import Slots


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where a rank meets others at a link, in a round, as sender or receiver in forward, and how many they are."""

    link: int
    round: int
    is_sender: bool
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """What ranks have in common that could be of one role, whatever their programs: nodes, slots, and meetings.

    `contacts` of a rank are its groups in the order of the slots, then whom it meets in the order of `meetings`.
    """

    nodes: tuple[Node, ...]
    slots: Slots
    meetings: tuple[Meeting, ...]


Contact = tuple[int, bool]
"""The number of a set of ranks, and whether the rank itself is among them."""


class Contacts:
    """Whom every rank of a plan meets, by sets of ranks that many of them share."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.links = plan.stages.links
        self.sets: list[tuple[tuple[int, ...], ...]] = [(group,) for group in plan.slots.groups]
        self._numbers: dict[tuple[int, bool, tuple[range, ...]], int] = {}
        self.kinds: dict[int, Kind] = {}
        self.of: dict[int, tuple[Contact, ...]] = {}
        self._known: dict[tuple[int, Slots, tuple[Meeting, ...]], Kind] = {}
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
        meetings: list[Meeting] = []
        contacts: list[Contact] = [(group, True) for group in groups]
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
                        meetings.append(Meeting(number, numbered, is_sender, count))
                        contacts.append((self._set(number, is_sender, tuple(parts), other), has_itself))
        key = (id(nodes), slots, tuple(meetings))
        if key not in self._known:
            self._known[key] = Kind(nodes, slots, key[2])
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
