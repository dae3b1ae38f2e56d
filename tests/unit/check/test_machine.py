"""The linear machine agrees with a slow one that scans until nothing changes, on broken programs too."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.events import Collective, Events, Exchange, Flow, Run, Wait, expand
from counterpoint.check.fifo import check_fifos
from counterpoint.check.grid import HERE, format_programs
from counterpoint.check.machine import Machine
from counterpoint.plan.action import Compute, Direction, Step, Transfer, Work
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.plan import Plan
from tests.unit.check.faults import ends, swapped
from tests.unit.plan.strategies import plans, random_packs


@given(plans(max_world=6, max_microbatches=3), st.booleans(), st.data())
def test_a_cycle_is_found_exactly_when_there_is_one(plan: Plan, with_batch: bool, data: st.DataObject) -> None:
    batch = plan.batch(0, random_packs(plan, data.draw(st.integers(0, 999)))) if with_batch else None
    schedule = plan.schedule if batch is None else plan.of_step(plan.schedule, batch)
    programs = schedule.programs
    for _ in range(data.draw(st.integers(0, 3))):
        rank = data.draw(st.sampled_from(sorted(programs)))
        last = len(programs[rank]) - 1
        one = data.draw(st.integers(0, last))
        programs = swapped(programs, rank, one, data.draw(st.integers(one, min(one + 3, last))))
    events = expand(plan, programs, batch)
    fault = check_fifos(events)
    assert (fault is None) is ends(events)
    if fault is not None:
        assert fault.marks
        assert all(action in programs[rank] for rank, action in fault.marks)
        assert HERE in format_programs(programs, fault.marks)


@given(plans(max_world=6, max_microbatches=2), st.data())
def test_a_dropped_action_stops_it_exactly_when_the_slow_machine_stops(plan: Plan, data: st.DataObject) -> None:
    programs = plan.schedule.programs
    rank = data.draw(st.sampled_from(sorted(programs)))
    dropped = data.draw(st.integers(0, len(programs[rank]) - 1))
    programs = {**programs, rank: programs[rank][:dropped] + programs[rank][dropped + 1 :]}
    events = expand(plan, programs)
    assert (check_fifos(events) is None) is ends(events)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_post_starts_behind_what_was_ahead_of_it_whichever_rank_is_played_first(order: tuple[int, ...]) -> None:
    """Rank 0 sends to rank 1, which works first, hears of rank 2, and sends to that, which works when it has it."""
    work, early, late, word = Compute(Node("language", 0), Work.FORWARD, 0), *transfers()
    events: Events = {
        0: (
            Exchange(early, "c", (flow(1),), ()),
            Exchange(word, "d", (), (flow(2),)),
            Wait(word, (("d", word, 0),)),
            Exchange(late, "c", (flow(2),), ()),
        ),
        1: (Run(work), Exchange(early, "c", (), (flow(0),))),
        2: (
            Exchange(word, "d", (flow(0),), ()),
            Exchange(late, "c", (), (flow(0),)),
            Wait(late, (("c", late, 0),)),
            Run(work),
        ),
    }
    machine = Machine({rank: events[rank] for rank in order}, lambda _rank, _action: 5.0)
    assert [interval.start for interval in machine.intervals[2]] == [5.0]


def test_a_post_lasts_from_its_last_part_on_and_holds_up_what_is_queued_after_it() -> None:
    """Rank 0 posts at 0, rank 1 at 5: the first exchange is under way from 5 to 8, the second from 8 to 11."""
    work, early, late, _word = Compute(Node("language", 0), Work.FORWARD, 0), *transfers()
    first, second = Exchange(early, "c", (flow(1),), ()), Exchange(late, "c", (flow(1),), ())
    events: Events = {
        0: (first, second, Wait(late, (second.entry,)), Run(work)),
        1: (Run(work), Exchange(early, "c", (), (flow(0),)), Exchange(late, "c", (), (flow(0),))),
    }
    machine = Machine(events, lambda _rank, _action: 5.0, lambda _rank, _post: 3.0)
    assert [interval.start for interval in machine.intervals[0]] == [11.0]


def test_a_collective_takes_as_long_as_its_slowest_member() -> None:
    work, post = Compute(Node("language", 0), Work.FORWARD, 0), Collective(Step(), "c", (0, 1))
    events: Events = {rank: (post, Wait(Step(), (post.entry,)), Run(work)) for rank in (0, 1)}
    machine = Machine(events, durations=lambda rank, _post: 1.0 + rank)
    assert [machine.intervals[rank][0].start for rank in (0, 1)] == [2.0, 2.0]


def transfers() -> tuple[Transfer, Transfer, Transfer]:
    """Of one link."""
    link = Link(Node("vision", 0), Node("language", 0))
    early, late, word = (Transfer(link, Direction.FORWARD, exchange) for exchange in range(3))
    return early, late, word


def flow(peer: int) -> Flow:
    """Some rows."""
    return Flow(peer, 1, 1, "float32")


@given(plans(max_world=6))
def test_the_order_of_ranks_does_not_matter(plan: Plan) -> None:
    events = expand(plan, plan.schedule.programs)
    backwards = dict(reversed(events.items()))
    one, other = Machine(events, lambda _rank, _action: 1.0), Machine(backwards, lambda _rank, _action: 1.0)
    assert one.intervals == other.intervals
