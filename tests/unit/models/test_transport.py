"""Rows through shared memory: no two accesses of one place are without order, whatever ranks and streams do when.

The transport runs as it is, on ranks and streams that only note what is done where. What waits for what makes a graph;
an access that changes bytes must be ordered with every other one of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.parallelize import transport
from counterpoint.parallelize.transport import PeerMemory

Calls = list[tuple[str, int]]
"""`gather` or `sum`, and rows of a shard."""

WIDTH, BYTES = 4, 8


@dataclass
class Access:
    """What a node of the graph does to the bytes of one memory."""

    node: int
    memory: tuple[object, ...]
    start: int
    stop: int
    writes: bool


@dataclass
class Graph:
    """Nodes in the order in which hosts launch them, with the nodes that they wait for."""

    waits: list[set[int]] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)
    barriers: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def add(self, waits: set[int]) -> int:
        """A new node."""
        self.waits.append(set(waits))
        return len(self.waits) - 1

    def races(self) -> list[tuple[Access, Access]]:
        """Pairs of accesses without order, one of which writes."""
        before = self._before()
        return [
            (a, b)
            for a, b in combinations(self.accesses, 2)
            if (a.writes or b.writes) and a.memory == b.memory and a.start < b.stop and b.start < a.stop
            if a.node != b.node and not before[b.node] >> a.node & 1 and not before[a.node] >> b.node & 1
        ]

    def _before(self) -> list[int]:
        """Of each node those that come before it, as bits."""
        waits = [set(each) for each in self.waits]
        for members in self.barriers.values():
            # A barrier ends when all of its ranks have come: each waits for what stands before the others'.
            arrivals = set().union(*(self.waits[node] for node in members))
            for node in members:
                waits[node] |= arrivals
        before: dict[int, int] = {}
        for root in range(len(waits)):
            stack = [root]
            while stack:
                node = stack[-1]
                missing = [each for each in waits[node] if each not in before]
                if missing:
                    stack.extend(missing)
                    continue
                stack.pop()
                before[node] = 0
                for each in waits[node]:
                    before[node] |= before[each] | 1 << each
        return [before[node] for node in range(len(waits))]


class Stream:
    """A queue of one rank: its last node is what the next one waits for."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.waits = graph, set[int]()

    def do(self) -> int:
        """A node behind all that this stream has."""
        node = self.graph.add(self.waits)
        self.waits = {node}
        return node

    def wait_stream(self, other: "Stream") -> None:
        self.waits = self.waits | other.waits

    def record_event(self) -> set[int]:
        return set(self.waits)

    def wait_event(self, event: set[int]) -> None:
        self.waits = self.waits | event

    def synchronize(self) -> None:
        """The host waits; what it launches afterwards is launched later, on a rank whose only host this is."""


class Rank:
    """A rank with its two streams; `current` is the one that work goes to."""

    def __init__(self, graph: Graph, number: int) -> None:
        self.graph, self.number = graph, number
        self.main = self.current = Stream(graph)
        self.memories = 0

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        """Work goes to `stream`."""
        before, self.current = self.current, stream
        yield
        self.current = before


class Rows:
    """Bytes of a memory, in place of a tensor."""

    def __init__(self, rank: Rank, memory: tuple[object, ...], shape: tuple[int, ...], start: int = 0) -> None:
        self.rank, self.memory, self.shape, self.start = rank, memory, shape, start
        self.dtype = torch.float64

    @property
    def stop(self) -> int:
        return self.start + torch.Size(self.shape).numel() * BYTES

    def copy_(self, source: "Rows") -> None:
        node = self.rank.current.do()
        source.note(node, writes=False)
        self.note(node, writes=True)

    def touch(self, *, writes: bool) -> None:
        self.note(self.rank.current.do(), writes=writes)

    def note(self, node: int, *, writes: bool) -> None:
        self.rank.graph.accesses.append(Access(node, self.memory, self.start, self.stop, writes))

    def __getitem__(self, place: int) -> "Rows":
        inner = self.shape[1:]
        return Rows(self.rank, self.memory, inner, self.start + place * torch.Size(inner).numel() * BYTES)

    def chunk(self, count: int) -> "list[Rows]":
        shape = (self.shape[0] // count, *self.shape[1:])
        size = torch.Size(shape).numel() * BYTES
        return [Rows(self.rank, self.memory, shape, self.start + place * size) for place in range(count)]

    def new_empty(self, shape: tuple[int, ...]) -> "Rows":
        self.rank.memories += 1
        return Rows(self.rank, (self.rank.number, "own", self.rank.memories), shape)


class Handle:
    """Shared memory as one rank has it; `generation` counts how often it grew."""

    def __init__(self, rank: Rank, generation: int) -> None:
        self.rank, self.generation, self.barriers = rank, generation, 0

    def get_buffer(self, owner: int, shape: tuple[int, ...], _dtype: torch.dtype, offset: int) -> Rows:
        return Rows(self.rank, (owner, "shared", self.generation), shape, offset * BYTES)

    def barrier(self) -> None:
        key = (self.generation, self.barriers)
        self.barriers += 1
        self.rank.graph.barriers.setdefault(key, []).append(self.rank.current.do())


def run(calls: Calls, size: int, change: Callable[[PeerMemory], None] | None = None) -> Graph:
    """All calls on all ranks, one rank's host after the other's."""
    graph = Graph()
    for number in range(size):
        rank = Rank(graph, number)
        cuda = SimpleNamespace(
            Stream=lambda rank=rank, **_options: Stream(rank.graph),
            current_stream=lambda rank=rank: rank.current,
            stream=rank.on,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport, "torch", SimpleNamespace(cuda=cuda, Size=torch.Size, Tensor=torch.Tensor))
            patch.setattr(transport, "_sum", lambda: lambda parts: parts.touch(writes=False))
            peers = PeerMemory(SimpleNamespace(rank=number, size=size))  # type: ignore[arg-type]
            generations: list[int] = []

            def grow(needed: int, peers: PeerMemory = peers, rank: Rank = rank, seen: list[int] = generations) -> None:
                if needed > peers._capacity:
                    seen.append(needed)
                    peers._capacity, peers._handle = 1 << (needed - 1).bit_length(), Handle(rank, len(seen))

            patch.setattr(peers, "_grow", grow)
            if change is not None:
                change(peers)
            for kind, rows in calls:
                _call(kind, peers, rank, rows, size)
    return graph


def _call(kind: str, peers: PeerMemory, rank: Rank, rows: int, size: int) -> None:
    shard = Rows(rank, (), (rows, WIDTH)).new_empty((rows, WIDTH))
    if kind == "gather":
        shard.touch(writes=True)
        gathered = shard.new_empty((size * rows, WIDTH))
        for _span, arrived in peers.arriving(shard, gathered):  # type: ignore[arg-type]
            arrived.touch(writes=False)  # type: ignore[attr-defined]
        gathered.touch(writes=False)
    else:
        end = peers.leaving(lambda _span, out: out.touch(writes=True), shard)  # type: ignore[attr-defined, arg-type]
        rank.current.do()
        end()


CALLS = st.lists(st.tuples(st.sampled_from(["gather", "sum"]), st.integers(1, 4)), min_size=1, max_size=7)


@given(CALLS, st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_no_access_is_without_order(calls: Calls, size: int) -> None:
    graph = run(calls, size)
    assert len(graph.accesses) >= 2 * size * len(calls)
    assert graph.races() == []


def _no_wait(peers: PeerMemory) -> None:
    setattr(peers._stream, "wait_stream", lambda _other: None)  # noqa: B010


def _one_slot(peers: PeerMemory) -> None:
    slots = peers._slots

    def again(shape: tuple[int, ...], shard: torch.Tensor) -> object:
        peers._turn = 0
        return slots(shape, shard)

    peers._slots = again  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("kind", ["gather", "sum"])
@pytest.mark.parametrize("change", [_no_wait, _one_slot])
def test_a_wait_or_a_slot_less_is_noticed(change: Callable[[PeerMemory], None], kind: str) -> None:
    assert run([(kind, 2)] * 3, 3, change).races()
