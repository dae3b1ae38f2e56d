"""The linear machine agrees with a slow one that scans until nothing changes, on broken programs too."""

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.events import expand
from counterpoint.check.fifo import check_fifos
from counterpoint.check.grid import HERE, format_programs
from counterpoint.check.machine import Machine
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


@given(plans(max_world=6))
def test_the_order_of_ranks_does_not_matter(plan: Plan) -> None:
    events = expand(plan, plan.schedule.programs)
    backwards = dict(reversed(events.items()))
    one, other = Machine(events, lambda action: 1.0), Machine(backwards, lambda action: 1.0)
    assert one.intervals == other.intervals
