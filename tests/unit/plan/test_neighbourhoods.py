"""Who meets whom: nothing changes for few peers, many are dealt in neighbourhoods, and large exchanges go in rounds."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.check.events import Events, Exchange, expand, expand_template
from counterpoint.check.fifo import check_fifos
from counterpoint.check.proof import check_plan
from counterpoint.check.routes import check_routes
from counterpoint.plan.action import Direction
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.peers import Meetings, Rounds, most_peers
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.plan_batch import plan_batch
from tests.asked import asked
from tests.unit.plan.drawn import limits
from tests.unit.plan.strategies import plan_of, plans, random_packs, uniform_packs


def plan_of_lanes(
    vision: int, language: int, *, tp: int = 1, pp: int = 1, apart: bool = False, balance: str = "cost", group: int = 1
) -> Plan:
    """Vision and language of so many lanes, on ranks of their own or from rank 0 on both."""
    first = vision if apart else 0
    ranks = tuple(range(first, first + language * tp * pp))
    requests = (
        asked("vision", ranks=tuple(range(vision))),
        asked("language", ranks=ranks, tp=tp, pp=pp),
    )
    placement = place(max(vision, ranks[-1] + 1), requests, partial_overlap=True)
    rows = {
        layout.module: ModuleRows(layout, balance=balance, group=group if layout.module == "vision" else 1)
        for layout in placement.layouts
    }
    return plan_of(placement, rows, "1f1b", 3)


@pytest.mark.parametrize(("balance", "group"), [("cost", 1), ("cost", 2), ("sample", 1), ("none", 1)])
def test_few_peers_are_dealt_as_if_any_lanes_could_meet(balance: str, group: int) -> None:
    dice = random.Random(7)
    for _ in range(12):
        vision, language, tp, apart = dice.randint(1, 24), dice.randint(1, 6), dice.choice((1, 2)), dice.random() < 0.5
        plan = plan_of_lanes(vision, language, tp=tp, apart=apart, balance=balance, group=group)
        packs = random_packs(plan, dice.randint(0, 999), max_packs=40)
        assert plan.batch(3, packs) == plan_batch(3, packs, plan.rows, plan.sink, plan.microbatches)
        for link in plan.stages.links:
            ends = itertools.product(plan.stages.ranks[link.source], plan.stages.ranks[link.target])
            assert sorted(plan.pairs(link, Direction.FORWARD)) == sorted((a, b) for a, b in ends if a != b)


def exchanges(events: Events) -> Iterator[tuple[int, Exchange]]:
    """All exchanges with their ranks."""
    return ((rank, event) for rank, stream in events.items() for event in stream if isinstance(event, Exchange))


def test_256_lanes_beside_two_meet_in_two_neighbourhoods() -> None:
    """On ranks of their own a rank of the language model meets 128 lanes; on the same ones it is one of them itself."""
    for apart, most in ((False, (7, 127)), (True, (8, 0))):
        plan = plan_of_lanes(256, 2, tp=8, pp=16, apart=apart)
        assert plan.meetings.counts == {"vision": 2, "language": 2}
        (link,) = (link for link in plan.stages.links if not link.is_hop)
        pairs = plan.pairs(link, Direction.FORWARD)
        assert (sum(a == 0 for a, _b in pairs), sum(b == 0 for _a, b in pairs)) == most
        assert max(Counter(b for _a, b in pairs).values()) == (128 if apart else 127) + (not apart)


@pytest.mark.more
def test_256_lanes_beside_two_are_proved() -> None:
    plan = plan_of_lanes(256, 2, tp=8, pp=16)
    check_plan(plan)
    check_plan(plan, plan.batch(0, uniform_packs(512)))


def test_sixteen_lanes_beside_two_are_proved_under_small_limits() -> None:
    """What 256 lanes are, with a sixteenth of the ranks and of the limits."""
    with limits(4, 6):
        plan = plan_of_lanes(16, 2, tp=2, pp=4)
        assert plan.meetings.counts == {"vision": 2, "language": 2}
        batch = plan.batch(0, uniform_packs(32))
        check_plan(plan)
        check_plan(plan, batch)
        assert {exchange.round for _rank, exchange in exchanges(expand_template(plan, plan.schedule.programs))} == {
            0,
            1,
            2,
        }


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(plans(max_world=10), st.integers(1, 5), st.integers(2, 5), st.integers(0, 2**16))
def test_any_plan_holds_in_neighbourhoods_and_rounds(plan: Plan, most: int, operations: int, seed: int) -> None:
    with limits(most, operations):
        batch, ahead = (plan.batch(step, random_packs(plan, seed + step)) for step in (0, 1))
        check_plan(plan)
        check_plan(plan, batch, ahead)
        small = expand_template(plan, plan.schedule.programs)
        assert all(len(e.sends) + len(e.receives) <= operations for _rank, e in exchanges(small))
    with limits(most, 10**6):
        whole = expand_template(replace(plan), plan.schedule.programs)
    assert flows(small) == flows(whole)
    for module, count in plan.meetings.counts.items():
        ports = [link for link in plan.stages.links if link.source.module == module != link.target.module]
        met = [fewest_peers(plan, module, other, ports) for other in range(1, plan.layouts[module].dp + 1)]
        if module != plan.sink and met[count - 1] > most:
            assert met[count - 1] == min(met[: plan.layouts[plan.sink].dp])
        if module != plan.sink:
            assert all(fewer > most for fewer in met[: count - 1])


def flows(events: Events) -> Counter[tuple[object, ...]]:
    """All sends and receives, whatever their round."""
    return Counter(
        (rank, e.action, kind, flow) for rank, e in exchanges(events) for kind in ("sends", "receives")
        for flow in (e.sends if kind == "sends" else e.receives)
    )  # fmt: skip


def fewest_peers(plan: Plan, module: str, count: int, ports: list[Link]) -> int:
    """The most peers of a rank if a module had so many neighbourhoods."""
    tried = Meetings(plan.layouts, {**plan.meetings.counts, module: count}, plan.meetings.documents)
    return max((most_met(tried.pattern(link).pairs()) for link in ports), default=0)


def most_met(pairs: tuple[tuple[int, int], ...]) -> int:
    """The most ranks that any rank meets, in either role, counted one by one."""
    met: dict[int, set[int]] = {}
    for a, b in pairs:
        met.setdefault(a, set()).add(b)
        met.setdefault(b, set()).add(a)
    return max(map(len, met.values()), default=0)


@given(plans(max_world=16), st.integers(1, 6), st.data())
def test_the_most_peers_are_those_counted_one_by_one(plan: Plan, most: int, data: st.DataObject) -> None:
    with limits(most, 255):
        counts = plan.meetings.counts
        for link in filter(lambda link: not link.is_hop, plan.stages.links):
            module = link.source.module
            count = data.draw(st.integers(1, min(plan.layouts[module].dp, plan.meetings.documents)))
            tried = Meetings(plan.layouts, {**counts, module: count}, plan.meetings.documents)
            pattern = tried.pattern(link)
            shared = tuple(rank for rank in pattern.senders if rank in pattern.receivers)
            assert most_peers(tried, link, shared) == most_met(pattern.pairs())


@given(plans(max_world=16), st.integers(1, 5), st.integers(2, 5))
def test_parts_of_a_rank_are_those_of_its_pairs(plan: Plan, most: int, operations: int) -> None:
    with limits(most, operations):
        for link, rounds in plan.rounds.items():
            pattern = rounds.pattern
            found: Counter[tuple[int, int, int]] = Counter()
            for place, sender in enumerate(pattern.senders):
                for number, places in rounds.parts(place, is_sender=True):
                    found.update((sender, pattern.receivers[other], number) for other in places)
            back: Counter[tuple[int, int, int]] = Counter()
            for place, receiver in enumerate(pattern.receivers):
                for number, places in rounds.parts(place, is_sender=False):
                    back.update((pattern.senders[other], receiver, number) for other in places)
            assert found == back
            wanted = Counter((a, b, rounds.round(a, b)) for a, b in plan.pairs(link, Direction.FORWARD))
            assert {key: n for key, n in found.items() if key[0] != key[1]} == wanted


@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**16))
def test_loads_in_a_neighbourhood_differ_by_an_item_at_most(vision: int, language: int, most: int, seed: int) -> None:
    with limits(most, 255):
        plan = plan_of_lanes(vision, language)
        batch = plan.batch(0, random_packs(plan, seed, max_packs=30))
        assert batch == plan.batch(0, random_packs(plan, seed, max_packs=30))
        count = plan.meetings.counts["vision"]
    for shares in batch.shares["vision"]:
        costs = [[span.rows_in for span in share.spans] for share in shares]
        for number in range(count):
            own = [costs[lane] for lane in range(vision) if lane * count // vision == number]
            loads = [sum(lane) for lane in own]
            assert max(loads) - min(loads) <= max((cost for lane in own for cost in lane), default=0)


@pytest.mark.parametrize("operations", [2, 3, 4, 5])
@pytest.mark.parametrize("receiver", range(7))
def test_a_rank_takes_a_place_among_those_whom_it_meets(receiver: int, operations: int) -> None:
    """Though it has no operation with itself: seven lanes that all give to one of their ranks."""
    vision, language = asked("vision", ranks=tuple(range(7))), asked("language", ranks=(receiver,))
    layouts = {layout.module: layout for layout in place(7, (vision, language), partial_overlap=True).layouts}
    link = Link(Node("vision", 0), Node("language", 0))
    with limits(64, operations):
        pattern = Meetings(layouts, {"vision": 1, "language": 1}, 1).pattern(link)
        rounds = Rounds.of(pattern)
        pairs = pattern.pairs()
        assert [sender for sender, _receiver in pairs] == [sender for sender in range(7) if sender != receiver]
        assert max(Counter(rounds.round(*pair) for pair in pairs).values()) <= operations


def test_rounds_in_another_order_on_two_ranks_hang() -> None:
    with limits(64, 2):
        plan = plan_of_lanes(4, 4, apart=True)
        events = expand(plan, plan.schedule.programs)
        assert check_fifos(events) is None
        for rank in (0, 2):
            stream = list(events[rank])
            places = [n for n, e in enumerate(stream) if isinstance(e, Exchange) and str(e.action).endswith("F0")]
            stream[places[0]], stream[places[1]] = stream[places[1]], stream[places[0]]
            events[rank] = tuple(stream)
        fault = check_fifos(events)
        assert fault is not None
        assert "and so in a circle" in fault.sentence


def test_an_item_that_leaves_its_neighbourhood_is_refused() -> None:
    with limits(2, 255):
        plan = plan_of_lanes(4, 2, apart=True)
        astray = plan_batch(0, uniform_packs(3), plan.rows, plan.sink, plan.microbatches)
        assert check_routes(plan, plan.batch(0, uniform_packs(3))) is None
        fault = check_routes(plan, astray)
        assert fault is not None
        assert "of vision and lane" in fault.sentence
        assert "expected lanes that the template lets meet" in fault.sentence
