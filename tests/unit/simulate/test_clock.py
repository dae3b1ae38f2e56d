"""The clock: known bubbles of known schedules, and what holds for every timeline."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import ProofError
from counterpoint.plan.action import Compute, Direction
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.plan import Plan
from counterpoint.simulate.clock import simulate, simulate_programs
from tests.unit.check.faults import reordered
from tests.unit.plan.strategies import LANGUAGE, chain_plan, plans, random_packs, small_plan


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 1), (1, 5), (2, 1), (2, 4), (4, 4), (4, 9), (6, 3)])
def test_the_bubble_of_a_chain_is_the_known_one(kind: str, stages: int, microbatches: int) -> None:
    """(P - 1) / (M + P - 1), Narayanan et al. 2021 (arXiv:2104.04473), section 2.2."""
    timeline = simulate(chain_plan(stages, microbatches, kind))
    assert timeline.makespan == 3 * (microbatches + stages - 1)
    expected = (stages - 1) / (microbatches + stages - 1)
    assert timeline.bubble_fraction == pytest.approx(expected)
    assert all(timeline.bubble(rank) == pytest.approx(expected) for rank in range(stages))


@pytest.mark.parametrize(("kind", "expected"), [("gpipe", [6, 6, 6]), ("1f1b", [3, 2, 1])])
def test_peaks_on_a_chain(kind: str, expected: list[int]) -> None:
    timeline = simulate(chain_plan(3, 6, kind))
    assert [timeline.in_flight[Node(LANGUAGE, stage)] for stage in range(3)] == expected


@given(plans())
def test_ranks_do_one_thing_at_a_time(plan: Plan) -> None:
    timeline = simulate(plan)
    for row in timeline.intervals.values():
        assert all(before.end <= after.start for before, after in pairwise(row))
    assert timeline.makespan == max(row[-1].end for row in timeline.intervals.values())


@given(plans())
def test_consumers_start_after_what_their_peers_send(plan: Plan) -> None:
    intervals = simulate(plan).intervals
    times = {(rank, interval.action): interval for rank, row in intervals.items() for interval in row}
    for link in plan.stages.links:
        for way in Direction:
            ends = (link.source, link.target) if way is Direction.FORWARD else (link.target, link.source)
            for microbatch in range(plan.microbatches):
                first, then = (Compute(node, way, microbatch) for node in ends)
                for sender, receiver in plan.pairs(link, way):
                    assert times[sender, first].end <= times[receiver, then].start


@given(plans(), st.integers(0, 2**16))
def test_costs_add_up_and_a_batch_takes_no_longer_than_its_template(plan: Plan, seed: int) -> None:
    whole, step = simulate(plan), simulate(plan, plan.batch(0, random_packs(plan, seed)))
    assert step.makespan <= whole.makespan
    for rank in plan.placement.active:
        nodes = plan.nodes_of(rank)
        assert whole.busy(rank) == 3 * plan.microbatches * len(nodes)
        assert 0.0 <= whole.bubble(rank) < 1.0
        assert step.busy(rank) <= whole.busy(rank)
        assert simulate(plan, costs=lambda action: 0.5).busy(rank) == plan.microbatches * len(nodes)


def test_a_timeline_draws_one_line_per_rank() -> None:
    assert simulate(chain_plan(2, 2, "1f1b")).draw(9).splitlines() == [
        "rank 0 |aa..AA.AA|  33% idle",
        "rank 1 |.bBBbBB..|  33% idle",
        "a language.0, b language.1; small forward, capital backward, . idle",
    ]


def test_buffers_count_receives_posted_ahead() -> None:
    timeline = simulate(small_plan(microbatches=3))
    edge = Link(Node("vision", 0), Node("language", 0))
    assert timeline.receives[edge, Direction.FORWARD] >= 1
    assert timeline.in_flight == {Node("vision", 0): 3, Node("language", 0): 3}


def test_programs_that_do_not_end_are_refused() -> None:
    plan = small_plan()
    programs = reordered(plan.schedule.programs, 2, "vision.0>language.0F1", "vision.0>language.0F0")
    with pytest.raises(ProofError, match="waits without end"):
        simulate_programs(plan, programs)
