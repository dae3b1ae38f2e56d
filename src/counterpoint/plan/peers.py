"""Which ranks can meet at an edge, and in how many rounds they do.

Where a rank would meet many others, a module's lanes are cut into neighbourhoods, each of which serves some lanes of
the sink. What is too large for one coalesced group is exchanged in rounds. Both follow from layouts alone, so that all
ranks know them and the proof of a template holds for every batch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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

    def pairs(self, link: Link) -> tuple[Pair, ...]:
        """All pairs of different ranks that an edge can use forward, by sender."""
        source, target = self.layouts[link.source.module], self.layouts[link.target.module]
        found = []
        for lane in range(source.dp):
            met = self.lanes(target.module, *self.served(source.module, lane))
            receivers = [b for other in met for b in target.lane_ranks(link.target.stage, other)]
            found += [(a, b) for a in source.lane_ranks(link.source.stage, lane) for b in receivers if a != b]
        return tuple(found)


def _start(number: int, lanes: int, count: int) -> int:
    """The first lane of a neighbourhood."""
    return -(-number * lanes // count)


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
    for count in range(1, min(layouts[module].dp, documents) + 1):
        tried = Meetings(layouts, {**counts, module: count}, documents)
        most[count] = max((most_peers(tried.pairs(link)) for link in ports), default=0)
        if most[count] <= MOST_PEERS:
            return count
    return min(most, key=lambda count: (most[count], count))


def most_peers(pairs: Iterable[Pair]) -> int:
    """The most ranks that any rank meets, in either role."""
    met: dict[int, set[int]] = {}
    for a, b in pairs:
        met.setdefault(a, set()).add(b)
        met.setdefault(b, set()).add(a)
    return max(map(len, met.values()), default=0)


@dataclass(frozen=True)
class Rounds:
    """The rounds of an exchange of a link, forward and backward: groups of sends and receives, one after the other.

    A rank posts its rounds in ascending order. So a round waits for its own ranks' earlier rounds alone, the first for
    none, and exchanges that end in one group end in rounds.
    """

    count: int = 1
    width: int = 1
    _places: Mapping[int, tuple[int, int]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, pairs: Sequence[Pair], senders: tuple[int, ...], receivers: tuple[int, ...]) -> "Rounds":
        """The fewest rounds of at most MOST_OPERATIONS for the forward pairs of a link; the peers of a rank stand next
        to each other among all `senders` or `receivers`."""
        sends, receives = Counter(a for a, _b in pairs), Counter(b for _a, b in pairs)
        if max((sends + receives).values(), default=0) <= MOST_OPERATIONS:
            return cls()
        # A rank on both sides may have operations of both, and is among its own peers.
        width = MOST_OPERATIONS // (1 + bool(sends.keys() & receives.keys()))
        has_itself = bool(set(senders) & set(receivers))
        count = -(-(max(*sends.values(), *receives.values()) + has_itself) // width)
        places: dict[int, tuple[int, int]] = {rank: (number, 0) for number, rank in enumerate(senders)}
        for number, rank in enumerate(receivers):
            places[rank] = (places.get(rank, (0, 0))[0], number)
        return cls(count, width, places)

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
        one block of the other side.
        """
        if self.count == 1:
            return 0
        return (self._places[sender][0] // self.width + self._places[receiver][1] // self.width) % self.count
