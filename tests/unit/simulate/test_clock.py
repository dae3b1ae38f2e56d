"""The clock: known bubbles of known schedules, and what holds for every timeline."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import ProofError
from counterpoint.plan.action import Compute, Direction, Work
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.plan import Plan
from counterpoint.simulate.clock import flop_costs, simulate, simulate_programs, unit_costs
from tests.unit.check.faults import reordered
from tests.unit.plan.strategies import LANGUAGE, chain_plan, plans, random_packs, small_plan
from tests.unit.report.pages import example


@pytest.mark.parametrize("kind", ["gpipe", "1f1b"])
@pytest.mark.parametrize(("stages", "microbatches"), [(1, 1), (1, 5), (2, 1), (2, 4), (4, 4), (4, 9), (6, 3)])
def test_the_bubble_of_a_chain_is_the_known_one(kind: str, stages: int, microbatches: int) -> None:
    """(P - 1) / (M + P - 1), Narayanan et al. 2021 (arXiv:2104.04473), section 2.2."""
    timeline = simulate(chain_plan(stages, microbatches, kind))
    assert timeline.makespan == 3 * (microbatches + stages - 1)
    expected = (stages - 1) / (microbatches + stages - 1)
    assert timeline.bubble_fraction == pytest.approx(expected)
    assert all(timeline.bubble(rank) == pytest.approx(expected) for rank in range(stages))


@pytest.mark.parametrize("places", [2, 3, 4])
@pytest.mark.parametrize("chunks", [2, 4])
@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_chunks_divide_the_bubble(places: int, chunks: int, rounds: int) -> None:
    """(P - 1) / (V M + P - 1), the same, section 2.2.1."""
    timeline = simulate(chain_plan(places, places * rounds, "interleaved", chunks))
    expected = (places - 1) / (chunks * places * rounds + places - 1)
    assert timeline.bubble_fraction == pytest.approx(expected)


@pytest.mark.parametrize("stages", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_weight_gradients_fill_two_thirds_of_the_bubble(stages: int, rounds: int) -> None:
    """(P - 1)(F + I - W), Qi et al. 2023 (arXiv:2401.10241), table 1, where 1F1B has (P - 1)(F + I + W)."""
    timeline = simulate(chain_plan(stages, 2 * stages * rounds, "zero_bubble"))
    assert timeline.makespan == 3 * 2 * stages * rounds + stages - 1
    assert max(timeline.in_flight.values()) == stages


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
    makers = {t: a for _rank, a in times for t in plan.stages.gives(a, plan.microbatches) if t.ahead == a.ahead}
    for receiver, action in times:
        for transfer in plan.stages.reads(action, plan.microbatches):
            for sender, target in plan.pairs(transfer.link, transfer.direction):
                if target == receiver and transfer in makers:
                    assert times[sender, makers[transfer]].end <= times[receiver, action].start


@given(plans(), st.integers(0, 2**16))
def test_costs_add_up_and_a_batch_takes_no_longer_than_its_template(plan: Plan, seed: int) -> None:
    whole, step = simulate(plan), simulate(plan, plan.batch(0, random_packs(plan, seed)))
    assert step.makespan <= whole.makespan + 1e-9
    for rank, program in plan.schedule.programs.items():
        computes = [action for action in program if isinstance(action, Compute)]
        assert whole.busy(rank) == pytest.approx(sum(map(plan.stages.cost, computes)))
        assert 0.0 <= whole.bubble(rank) < 1.0
        assert step.busy(rank) <= whole.busy(rank) + 1e-9
        assert simulate(plan, costs=lambda _rank, _action: 0.5).busy(rank) == 0.5 * len(computes)


def test_weight_gradients_have_their_own_sign() -> None:
    assert simulate(chain_plan(2, 2, "zero_bubble")).draw(14).splitlines() == [
        "rank 0 |aaaa..AA++AA++|  14% idle",
        "rank 1 |..bbBBbbBB++++|  14% idle",
        "a language.0, b language.1; small forward, capital backward, + weight gradients, . idle",
    ]


def test_flops_cost_what_the_models_say_of_the_fullest_lane() -> None:
    plan, batch = example("synthetic_disjoint")
    cost, node = flop_costs(plan, batch), Node(LANGUAGE, 0)
    forwards = sum(cost(0, Compute(node, Work.FORWARD, m)) for m in range(plan.microbatches))
    expected = sum(plan.facts[LANGUAGE].forward_flops(document.tokens) for document in batch.documents)
    assert forwards * plan.layouts[LANGUAGE].lane_size == expected
    for other in plan.stages.nodes:
        forward, whole, *halves = (cost(0, Compute(other, work, 0)) for work in Work)
        assert whole == sum(halves)
        # Nobody needs the gradients of pixels.
        if other.module == LANGUAGE:
            assert whole == pytest.approx(2 * forward, rel=0.2)
            assert halves[0] >= forward >= halves[1] > 0
        else:
            assert forward > halves[0] > 0 < halves[1] <= forward
    assert 0.0 < simulate(plan, batch, cost).bubble_fraction < 1.0


def test_a_backward_without_weights_costs_its_input_half() -> None:
    plan, batch = example("synthetic_disjoint", "modules.language.train=none")
    node = Node(LANGUAGE, 0)
    for cost in (flop_costs(plan, batch), unit_costs(plan)):
        assert cost(0, Compute(node, Work.BACKWARD, 1)) == cost(0, Compute(node, Work.INPUT, 1)) > 0


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
