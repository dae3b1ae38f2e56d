"""Which ranks can meet at an edge, and in how many rounds they do.

Where a rank would meet many others, a module's lanes are cut into neighbourhoods, each of which serves some lanes of
the sink. What is too large for one coalesced group is exchanged in rounds. Both follow from layouts alone, so that all
ranks know them and the proof of a template holds for every batch.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from counterpoint.plan.action import Direction
from counterpoint.plan.graph import Graph, Link
from counterpoint.plan.layout import Layout

MOST_PEERS = 64
"""Ranks that a rank may meet in an exchange before lanes are cut into neighbourhoods."""

MOST_OPERATIONS = 255
"""Sends and receives in one coalesced group: fewer than NCCL's older limit of 256, far fewer than the 2,048 that its
guide names today. On two H200 (`benchmarks/group_bounds.py`, torch 2.11) groups of up to 4,096 were right, so neither
is a bound there; an operation took 27 microseconds in a group of any size, so smaller groups cost nothing."""

Part = TypeVar("Part")

Pair = tuple[int, int]
"""A sender and a receiver."""


@dataclass(frozen=True)
class Meetings:
    """Which lanes of two modules can meet: those that serve the same of `documents` lanes of the sink.

    `counts` is the number of neighbourhoods of each module; those of the sink are its lanes.
    """

    layouts: Mapping[str, Layout]
    counts: Mapping[str, int]
    documents: int

    def lanes(self, module: str, first: int, last: int) -> range:
        """The lanes of a module that serve any of the sink's lanes from `first` to `last`."""
        lanes, count = self.layouts[module].dp, self.counts[module]
        near, far = first * count // self.documents, last * count // self.documents
        return range(_start(near, lanes, count), _start(far + 1, lanes, count))

    def served(self, module: str, lane: int) -> tuple[int, int]:
        """The first and the last of the sink's lanes that a lane of a module serves."""
        count = self.counts[module]
        number = lane * count // self.layouts[module].dp
        return _start(number, self.documents, count), _start(number + 1, self.documents, count) - 1

    def opposite(self, module: str, lane: int, other: str) -> range:
        """The lanes of another module that a lane can meet."""
        return self.lanes(other, *self.served(module, lane))

    def neighbourhoods(self, module: str) -> Iterator[range]:
        """The lanes of a module by neighbourhood: they meet the same lanes of any other module."""
        lanes, count = self.layouts[module].dp, self.counts[module]
        return (range(_start(n, lanes, count), _start(n + 1, lanes, count)) for n in range(count))

    def pattern(self, link: Link) -> "Pattern":
        """Who meets whom at a link."""
        source, target = self.layouts[link.source.module], self.layouts[link.target.module]
        senders, receivers = source.stage_ranks(link.source.stage), target.stage_ranks(link.target.stage)
        if link.is_hop:
            return Pattern(senders, receivers)
        return Pattern(senders, receivers, (self, link.source.module, link.target.module))


def _start(number: int, lanes: int, count: int) -> int:
    """The first lane of a neighbourhood."""
    return -(-number * lanes // count)


@dataclass(frozen=True)
class Pattern:
    """Who meets whom at a link: a sender at a place of `senders` meets an interval of the places of `receivers`.

    Along a hop equal places meet, across an edge (`across`: meetings, source and target module) the ranks of lanes.
    No rank meets itself.
    """

    senders: tuple[int, ...]
    receivers: tuple[int, ...]
    across: tuple[Meetings, str, str] | None = None

    def sends_to(self, place: int) -> range:
        """The places among `receivers` that a sender meets, its own included where it is one of them."""
        return self._met(place, is_sender=True)

    def receives_from(self, place: int) -> range:
        """The places among `senders` that a receiver meets, its own included where it is one of them."""
        return self._met(place, is_sender=False)

    def _met(self, place: int, *, is_sender: bool) -> range:
        if self.across is None:
            return range(place, place + 1)
        meetings, source, target = self.across
        own, other = (source, target) if is_sender else (target, source)
        lanes = meetings.opposite(own, place // meetings.layouts[own].lane_size, other)
        size = meetings.layouts[other].lane_size
        return range(lanes.start * size, lanes.stop * size)

    def component(self, place: int, *, is_sender: bool) -> int:
        """The first place at this end of the ranks that a rank meets, directly or through others."""
        if self.across is None:
            return place
        meetings, source, target = self.across
        own = source if is_sender else target
        size = meetings.layouts[own].lane_size
        first, _last = meetings.served(own, place // size)
        cut = self._cuts[bisect_right(self._cuts, first) - 1]
        return meetings.lanes(own, cut, cut).start * size

    @cached_property
    def _cuts(self) -> tuple[int, ...]:
        """The sink's lanes at which a neighbourhood of both modules begins."""
        assert self.across is not None, "only edges have neighbourhoods"
        meetings, *modules = self.across
        first, other = ({meetings.served(m, lanes.start)[0] for lanes in meetings.neighbourhoods(m)} for m in modules)
        return tuple(sorted(first & other))

    def receivers_of(self, rank: int) -> tuple[int, ...]:
        """The ranks to which a rank sends forward, ascending."""
        place = place_of(self.senders, rank)
        return () if place is None else _others(self.receivers, self.sends_to(place), rank)

    def senders_of(self, rank: int) -> tuple[int, ...]:
        """The ranks from which a rank receives forward, ascending."""
        place = place_of(self.receivers, rank)
        return () if place is None else _others(self.senders, self.receives_from(place), rank)

    def pairs(self) -> tuple[Pair, ...]:
        """All pairs of different ranks that meet, by sender."""
        return tuple((a, b) for a in self.senders for b in self.receivers_of(a))


def place_of(ranks: Sequence[int], rank: int) -> int | None:
    """The place of a rank in an ascending list, None if it is not in it."""
    place = bisect_left(ranks, rank)
    return place if place < len(ranks) and ranks[place] == rank else None


def _others(ranks: tuple[int, ...], places: range, rank: int) -> tuple[int, ...]:
    return tuple(other for other in ranks[places.start : places.stop] if other != rank)


def meetings(graph: Graph, layouts: Mapping[str, Layout], links: Iterable[Link]) -> Meetings:
    """Cut each module's lanes into the fewest neighbourhoods in which no rank meets more than MOST_PEERS others at any
    link, or, where its lanes do not allow that, in which ranks meet the fewest."""
    sink = graph.sinks[0]
    documents, counts = layouts[sink].dp, {sink: layouts[sink].dp}
    for module in reversed(graph.modules):
        if module != sink:
            ports = [link for link in links if link.source.module == module != link.target.module]
            counts[module] = _fewest(layouts, counts, documents, module, ports)
    return Meetings(layouts, counts, documents)


def _fewest(
    layouts: Mapping[str, Layout], counts: Mapping[str, int], documents: int, module: str, ports: list[Link]
) -> int:
    most: dict[int, int] = {}
    shared = {link: _shared(layouts, link) for link in ports}
    numbers = range(1, min(layouts[module].dp, documents) + 1)
    least = {count: _least_peers(layouts, documents, module, ports, count) for count in numbers}
    # Those in which ranks may meet few enough come first, in order; the others matter only if there are no such.
    for count in sorted(numbers, key=lambda count: (max(least[count], MOST_PEERS), count)):
        if least[count] > min(most.values(), default=least[count]):
            continue
        tried = Meetings(layouts, {**counts, module: count}, documents)
        most[count] = max((most_peers(tried, link, shared[link]) for link in ports), default=0)
        if most[count] <= MOST_PEERS:
            return count
    return min(most, key=lambda count: (most[count], count))


def _least_peers(layouts: Mapping[str, Layout], documents: int, module: str, ports: list[Link], count: int) -> int:
    """The fewest ranks that some rank meets, at best, if a module has `count` neighbourhoods: the fullest one is met as
    a whole, and a rank of the one that serves most lanes of the sink meets all of these."""
    met = [-(-layouts[module].dp // count) * layouts[module].lane_size for _link in ports]
    for link in ports:
        target = layouts[link.target.module]
        if target.dp == documents:
            met.append(-(-documents // count) * target.lane_size)
    # A rank does not meet itself.
    return max(met, default=1) - 1


def _shared(layouts: Mapping[str, Layout], link: Link) -> tuple[int, ...]:
    """The ranks at both ends of an edge, ascending."""
    source, target = layouts[link.source.module], layouts[link.target.module]
    receivers = frozenset(target.stage_ranks(link.target.stage))
    return tuple(rank for rank in source.stage_ranks(link.source.stage) if rank in receivers)


def most_peers(tried: Meetings, link: Link, shared: tuple[int, ...]) -> int:
    """The most ranks that any rank meets at an edge, in either role; `shared` are the ranks at both ends.

    Ranks of one neighbourhood that are at one end meet as many others, and so do those at both ends that are of the
    same neighbourhoods there.
    """
    pattern, most = tried.pattern(link), 0
    sizes = {module: tried.layouts[module].lane_size for module in (link.source.module, link.target.module)}
    sending = [_stretch(lanes, sizes[link.source.module]) for lanes in tried.neighbourhoods(link.source.module)]
    receiving = [_stretch(lanes, sizes[link.target.module]) for lanes in tried.neighbourhoods(link.target.module)]
    is_shared = frozenset(shared)
    for ranks, stretches, met in (
        (pattern.senders, sending, pattern.sends_to),
        (pattern.receivers, receiving, pattern.receives_from),
    ):
        for stretch in stretches:
            if len(met(stretch.start)) > most and not is_shared.issuperset(ranks[stretch.start : stretch.stop]):
                most = len(met(stretch.start))
    # The ranks at both ends, cut where a neighbourhood of either end begins.
    cuts = {0, len(shared)}
    for ranks, stretches in ((pattern.senders, sending), (pattern.receivers, receiving)):
        cuts.update(bisect_left(shared, ranks[stretch.start]) for stretch in stretches if stretch)
    for first in sorted(cuts)[:-1]:
        most = max(most, _met_by_both(pattern, shared, shared[first]))
    return most


def _stretch(lanes: range, size: int) -> range:
    """The places of some lanes' ranks."""
    return range(lanes.start * size, lanes.stop * size)


def _met_by_both(pattern: Pattern, shared: tuple[int, ...], rank: int) -> int:
    """Number of ranks that a rank at both ends meets."""
    sender, receiver = place_of(pattern.senders, rank), place_of(pattern.receivers, rank)
    assert sender is not None, "the rank is at both ends"
    assert receiver is not None, "the rank is at both ends"
    to, back = pattern.sends_to(sender), pattern.receives_from(receiver)
    low = max(pattern.receivers[to.start], pattern.senders[back.start])
    high = min(pattern.receivers[to.stop - 1], pattern.senders[back.stop - 1])
    twice = max(0, bisect_right(shared, high) - bisect_left(shared, low))
    return len(to) + len(back) - twice - (receiver in to or sender in back)


@dataclass(frozen=True)
class Rounds:
    """The rounds of an exchange of a link, forward and backward: groups of sends and receives, one after the other.

    A rank posts its rounds in ascending order. So a round waits for its own ranks' earlier rounds alone, the first for
    none, and exchanges that end in one group end in rounds.
    """

    pattern: Pattern
    count: int = 1
    width: int = 1

    @classmethod
    def of(cls, pattern: Pattern) -> "Rounds":
        """The fewest rounds of at most MOST_OPERATIONS for a link."""
        sends, receives = _operations(pattern)
        both = sends.keys() & receives.keys()
        most = max((*sends.values(), *receives.values(), *(sends[rank] + receives[rank] for rank in both)), default=0)
        if most <= MOST_OPERATIONS:
            return cls(pattern)
        # A rank on both sides may have operations of both, and is among its own peers.
        width = MOST_OPERATIONS // (1 + bool(both))
        has_itself = not frozenset(pattern.senders).isdisjoint(pattern.receivers)
        return cls(pattern, -(-(max(*sends.values(), *receives.values()) + has_itself) // width), width)

    def cut(
        self,
        rank: int,
        direction: Direction,
        sends: Sequence[Part],
        receives: Sequence[Part],
        peer: Callable[[Part], int],
    ) -> list[tuple[int, list[Part], list[Part]]]:
        """A rank's sends and receives by round, ascending, without the rounds in which it has none.

        `peer` gives the other rank of a part. A rank without any part has an empty first round.
        """
        if self.count == 1:
            return [(0, list(sends), list(receives))]
        is_forward = direction is Direction.FORWARD
        by_round: dict[int, tuple[list[Part], list[Part]]] = {}
        for role, parts in enumerate((sends, receives)):
            for part in parts:
                ends = (rank, peer(part)) if is_forward is (role == 0) else (peer(part), rank)
                by_round.setdefault(self.round(*ends), ([], []))[role].append(part)
        return [(number, *by_round[number]) for number in sorted(by_round)] or [(0, [], [])]

    def round(self, sender: int, receiver: int) -> int:
        """The round in which two ranks meet; they are sender and receiver in forward.

        Blocks of `width` senders and `width` receivers meet as in a Latin square, so in a round a rank meets at most
        one block of the other side. Blocks are counted from the first rank that one can reach, so that neighbourhoods
        of one size have the same rounds.
        """
        if self.count == 1:
            return 0
        first, other = place_of(self.pattern.senders, sender), place_of(self.pattern.receivers, receiver)
        assert first is not None, f"rank {sender} does not send"
        assert other is not None, f"rank {receiver} does not receive"
        return (self._block(first, is_sender=True) + self._block(other, is_sender=False)) % self.count

    def parts(self, place: int, *, is_sender: bool) -> list[tuple[int, range]]:
        """The places that a rank meets at the other end by round, ascending; a round may have two intervals."""
        met = self.pattern.sends_to(place) if is_sender else self.pattern.receives_from(place)
        if self.count == 1:
            return [(0, met)]
        own, parts, first = self._block(place, is_sender=is_sender), [], met.start
        while first < met.stop:
            block = self._block(first, is_sender=not is_sender)
            start = self.pattern.component(first, is_sender=not is_sender)
            last = min(met.stop, start + (block + 1) * self.width)
            parts.append(((own + block) % self.count, range(first, last)))
            first = last
        return sorted(parts, key=lambda part: (part[0], part[1].start))

    def _block(self, place: int, *, is_sender: bool) -> int:
        return (place - self.pattern.component(place, is_sender=is_sender)) // self.width


def _operations(pattern: Pattern) -> tuple[dict[int, int], dict[int, int]]:
    """Number of sends and of receives of each rank in a forward exchange, without those to itself."""
    shared = frozenset(pattern.senders).intersection(pattern.receivers)
    sends, receives = {}, {}
    for place, rank in enumerate(pattern.senders):
        met = pattern.sends_to(place)
        sends[rank] = len(met) - (rank in shared and place_of(pattern.receivers, rank) in met)
    for place, rank in enumerate(pattern.receivers):
        met = pattern.receives_from(place)
        receives[rank] = len(met) - (rank in shared and place_of(pattern.senders, rank) in met)
    return sends, receives
