"""The bridge: rows reach their owners, gradients go back the same way, and nothing is held longer than it must be."""

import time
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.execute.bridge import Bridge
from counterpoint.execute.rowmap import RowMap
from counterpoint.plan import peers
from counterpoint.plan.action import Direction, Transfer
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.communicators import transfer_name
from counterpoint.plan.graph import Link
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.route import Copy, Route
from tests.asked import asked
from tests.unit.execute.mailroom import Mailroom
from tests.unit.execute.rank import CPU
from tests.unit.execute.routes import by_hand, routes
from tests.unit.plan.strategies import LANGUAGE, chain_plan, plan_of

PLACES = {"disjoint": ((0, 1, 2), (3, 4)), "overlapping": ((0, 1, 2), (1, 2)), "same": ((0, 1), (0, 1))}
FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD


def two_modules(place_of: str) -> Plan:
    """A tower and a language model, each with its rows on all of its ranks."""
    towers, others = PLACES[place_of]
    requests = (asked("vision", ranks=towers), asked(LANGUAGE, ranks=others))
    placement = place(max(towers + others) + 1, requests, partial_overlap=True)
    return plan_of(placement, {layout.module: ModuleRows(layout) for layout in placement.layouts}, "gpipe", 1)


class Ranks:
    """The bridges of all ranks, played one after the other."""

    def __init__(self, plan: Plan, route: Route) -> None:
        self.room = Mailroom()
        (self.link,) = plan.stages.links
        self.sources, self.targets = plan.stages.ranks[self.link.source], plan.stages.ranks[self.link.target]
        self.bridges = {
            rank: Bridge(rank, plan, self.room.channels(plan, rank), CPU, torch.float64) for rank in plan.stages.world
        }
        for rank, bridge in self.bridges.items():
            bridge.begin({(self.link, 0): RowMap.build(route, rank)})

    def post(self, direction: Direction, rows: Mapping[int, Tensor]) -> Transfer:
        """Post every rank's part."""
        transfer = Transfer(self.link, direction, 0)
        for rank, bridge in self.bridges.items():
            bridge.post(transfer, rows.get(rank))
        return transfer


@st.composite
def crossings(draw: st.DrawFn) -> tuple[str, Route, dict[int, int]]:
    """Where two modules are, a route between them, and how many rows each source has."""
    where = draw(st.sampled_from(sorted(PLACES)))
    return where, *draw(routes(*PLACES[where]))


def numbers(rows: int, columns: int, first: int) -> Tensor:
    """Rows that differ from all others."""
    return torch.arange(first, first + rows * columns, dtype=torch.float64).view(rows, columns)


@settings(max_examples=30)
@given(crossings(), st.sampled_from([2, peers.MOST_OPERATIONS]))
def test_rows_reach_their_owners_and_gradients_come_back_to_them(
    crossing: tuple[str, Route, dict[int, int]], most: int
) -> None:
    """By hand, row for row, and however few operations one group of sends and receives may have."""
    where, route, held = crossing
    expected, width = by_hand(route), 32
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(peers, "MOST_OPERATIONS", most)
        ranks = Ranks(two_modules(where), route)
        given_rows = {rank: numbers(rows, width, 1000 * rank) for rank, rows in held.items()}
        forward = ranks.post(FORWARD, given_rows)
        arrived = {rank: ranks.bridges[rank].collect(forward) for rank in ranks.targets}
        places = {rank: ranks.bridges[rank].index(ranks.link, 0).tolist() for rank in ranks.targets}
        found = {(b, row): rows for b in places for row, rows in zip(places[b], arrived[b], strict=True)}
        assert len(found) == sum(map(len, arrived.values())) == len(expected)
        for (a, row), target in expected.items():
            assert found[target].equal(given_rows[a][row])
        gradients = {rank: numbers(len(rows), width, 5000 * (rank + 1)) for rank, rows in arrived.items()}
        backward = ranks.post(BACKWARD, gradients)
        back = {rank: ranks.bridges[rank].placed(backward, held[rank]) for rank in ranks.sources}
    of_place = {(b, row): rows for b in places for row, rows in zip(places[b], gradients[b], strict=True)}
    for a, rows in back.items():
        for row, gradient in enumerate(rows):
            assert gradient.equal(of_place[expected[a, row]] if (a, row) in expected else torch.zeros_like(gradient))
    crossed = 2 * sum(a != b for (a, _row), (b, _other) in expected.items())
    assert sum(bridge.sent_bytes for bridge in ranks.bridges.values()) == crossed * width * 8
    assert all(len(sends) + len(receives) <= most for _name, _rank, sends, receives in ranks.room.posted)
    for bridge in ranks.bridges.values():
        bridge.finish()


def test_a_large_exchange_is_posted_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ascending order on every rank, and a pair in the same round at both of its ends."""
    monkeypatch.setattr(peers, "MOST_OPERATIONS", 1)
    plan = two_modules("disjoint")
    copies = [Copy(a, b, 2 * a + b, 3 * b + a, 1) for a in (0, 1, 2) for b in (3, 4)]
    ranks = Ranks(plan, Route(tuple(sorted(copies))))
    rounds = plan.rounds[ranks.link]
    ranks.post(FORWARD, {rank: numbers(12, 32, rank) for rank in ranks.sources})
    for rank in ranks.bridges:
        ends = [
            [(rank, b) for b, _size in sends] + [(a, rank) for a, _size in receives]
            for _name, of, sends, receives in ranks.room.posted
            if of == rank
        ]
        numbered = [rounds.round(*pair) for (pair,) in ends]
        assert numbered == sorted(set(numbered))
        assert len(numbered) == (2 if rank in ranks.sources else 3)


def test_gradients_lie_where_their_rows_lay_and_not_in_the_order_of_targets() -> None:
    ranks = Ranks(two_modules("disjoint"), Route((Copy(0, 3, 1, 0, 1), Copy(0, 4, 0, 0, 1))))
    forward = ranks.post(FORWARD, {rank: numbers(2, 32, 0) for rank in ranks.sources})
    for rank, row in ((3, 1), (4, 0)):
        assert ranks.bridges[rank].collect(forward).equal(numbers(2, 32, 0)[row : row + 1])
    gradients = {3: numbers(1, 32, 300), 4: numbers(1, 32, 400)}
    backward = ranks.post(BACKWARD, gradients)
    assert ranks.bridges[0].placed(backward, 2).equal(torch.cat([gradients[4], gradients[3]]))


def test_who_has_nothing_to_give_or_to_get_takes_part_with_no_rows() -> None:
    """Ranks 1 and 2 have no row on the way, nor has rank 4."""
    ranks = Ranks(two_modules("disjoint"), Route((Copy(0, 3, 0, 0, 2),)))
    forward = ranks.post(FORWARD, {rank: numbers(rows, 32, 0) for rank, rows in ((0, 2), (1, 3), (2, 0))})
    assert [rank for _name, rank, sends, receives in ranks.room.posted if not sends and not receives] == [1, 2, 4]
    assert ranks.bridges[4].collect(forward).shape == (0, 32)
    assert len(ranks.bridges[3].collect(forward)) == 2
    backward = ranks.post(BACKWARD, {3: numbers(2, 32, 1), 4: numbers(0, 32, 1)})
    assert ranks.bridges[1].placed(backward, 3).equal(torch.zeros(3, 32, dtype=torch.float64))
    assert ranks.bridges[2].placed(backward, 0).shape == (0, 32)


def test_each_way_of_a_link_has_a_communicator_of_its_own() -> None:
    plan = chain_plan(2, 1, "gpipe")
    ranks = Ranks(plan, Route((Copy(0, 1, 0, 0, 4),)))
    rows = numbers(4, 32, 0)
    assert ranks.bridges[1].collect(ranks.post(FORWARD, {0: rows})).equal(rows)
    assert ranks.bridges[0].placed(ranks.post(BACKWARD, {1: rows + 1}), 4).equal(rows + 1)
    names = [name for name, rank, _sends, _receives in ranks.room.posted if rank == 0]
    assert names == [transfer_name(plan.placement, ranks.link, direction, 0) for direction in (FORWARD, BACKWARD)]
    assert len(set(names)) == 2


def test_what_is_sent_is_held_until_it_has_arrived_and_no_longer() -> None:
    plan = chain_plan(2, 3, "gpipe")
    (link,) = plan.stages.links
    room = Mailroom()
    sender, receiver = (Bridge(rank, plan, room.channels(plan, rank), CPU, torch.float64) for rank in (0, 1))
    for rank, bridge in enumerate((sender, receiver)):
        bridge.begin({(link, m): RowMap.build(Route((Copy(0, 1, 0, 0, 4),)), rank) for m in range(3)})
    held: list[list[bool]] = []
    sent: list[weakref.ref[Any]] = []
    for microbatch in range(3):
        memory = np.zeros((4, 32))
        sent.append(weakref.ref(memory))
        sender.post(Transfer(link, FORWARD, microbatch), torch.from_numpy(memory))
        del memory
        held.append([memory_of() is not None for memory_of in sent])
        if microbatch == 1:
            for number in range(2):
                receiver.post(Transfer(link, FORWARD, number), None)
            receiver.collect(Transfer(link, FORWARD, 0))
    assert held == [[True], [True, True], [False, True, True]]


def test_a_step_begins_with_nothing_open() -> None:
    ranks = Ranks(two_modules("disjoint"), Route((Copy(0, 3, 0, 0, 2),)))
    ranks.post(FORWARD, {rank: numbers(2, 32, 0) for rank in ranks.sources})
    with pytest.raises(AssertionError, match="with all of its transfers complete"):
        ranks.bridges[0].begin({})
    for bridge in ranks.bridges.values():
        bridge.finish()
        bridge.begin({})


def test_only_waiting_counts_as_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        """Posting takes a second, and what was posted arrives two seconds after somebody waits for it."""

        def exchange(self, sends: object, receives: object) -> "Slow":
            now[0] += 1.0
            return self

        def is_completed(self) -> bool:
            return False

        def wait(self) -> None:
            now[0] += 2.0

    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    plan = chain_plan(2, 2, "gpipe")
    (link,) = plan.stages.links
    slow: Any = dict.fromkeys(Mailroom().channels(plan, 1), Slow())
    bridge = Bridge(1, plan, slow, CPU, torch.float64)
    maps: dict[tuple[Link, int], RowMap] = {(link, m): RowMap.build(Route((Copy(0, 1, 0, 0, 1),)), 1) for m in (0, 1)}
    bridge.begin(maps)
    for microbatch in (0, 1):
        bridge.post(Transfer(link, FORWARD, microbatch), None)
    bridge.collect(Transfer(link, FORWARD, 0))
    assert bridge.waits.take_busy() == 2.0
    bridge.finish()
    assert now[0] == 106.0
    assert bridge.waits.take_busy() == 0.0
