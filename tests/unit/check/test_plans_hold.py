"""Every plan that the builders make passes its proof, whole and with any microbatches erased."""

import random
from collections.abc import Callable, Set

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counterpoint.check.buffers import trains
from counterpoint.check.grid import format_programs
from counterpoint.check.proof import check_plan, check_programs
from counterpoint.config import load_config
from counterpoint.plan.action import Action, Compute, Transfer
from counterpoint.plan.plan import Plan
from counterpoint.plan.samples import Document
from tests.parity.layouts import TINY, override, pair
from tests.unit.plan.strategies import chain_plan, plans, random_packs, small_plan, uniform_packs
from tests.unit.planned import planned


@given(plans())
def test_templates_hold(plan: Plan) -> None:
    proof = check_plan(plan)
    assert proof.ranks == len(plan.placement.active)
    for node, held in proof.in_flight.items():
        assert held <= min(plan.schedule.bounds[node], plan.stages.count(node.module, plan.microbatches))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(plans(max_world=64, max_microbatches=6))
def test_templates_hold_to_64_ranks(plan: Plan) -> None:
    check_plan(plan)


@given(plans(), st.integers(0, 2**16))
def test_steps_hold_for_any_batch(plan: Plan, seed: int) -> None:
    batch, ahead = (plan.batch(step, random_packs(plan, seed + step)) for step in (0, 1))
    proof = check_plan(plan, batch, ahead)
    stages = plan.stages
    cells = [(link, e) for link in stages.links for e in range(stages.exchanges(link, plan.microbatches))]
    assert proof.rows == sum(plan.route(batch, link, exchange).rows for link, exchange in cells)
    check_plan(plan, batch)
    check_programs(plan, plan.of_step(plan.schedule, None, ahead).programs, bounds=plan.schedule.bounds)


def test_a_training_step_of_which_nothing_goes_back_has_the_bounds_of_training() -> None:
    """A frozen decoder behind an encoder that trains, and a batch without images."""
    layouts = pair(
        3,
        {"ranks": [0]},
        {"ranks": [0, 1, 2], "pp": 3, "chunks": 2},
        schedule__kind="interleaved",
        schedule__microbatches=3,
    )
    plan = planned(override(load_config(TINY), layouts | {"modules.language.train": "none"}))
    batch = plan.batch(0, tuple((Document(0, i, 4, 3),) for i in range(6)))
    assert not trains(plan.of_step(plan.schedule, batch).programs)
    assert check_plan(plan, batch).receives_ahead > 1


@given(plans(), st.data())
def test_erasing_whole_matched_events_creates_no_cycle(plan: Plan, data: st.DataObject) -> None:
    """Design D3: what a module does in a microbatch goes as a whole, on all ranks alike."""
    stages = plan.stages
    cells = [(name, m) for name in plan.graph.modules for m in range(stages.count(name, plan.microbatches))]
    keeps = erasing(plan, data.draw(st.sets(st.sampled_from(cells))))
    check_programs(plan, plan.schedule.keep(keeps).programs, bounds=plan.schedule.bounds)
    check_programs(plan, plan.evaluation.keep(keeps).programs, bounds=plan.evaluation.bounds)


def erasing(plan: Plan, erased: Set[tuple[str, int]]) -> Callable[[Action], bool]:
    """Keeps what does not touch the erased (module, microbatch)."""
    stages = plan.stages

    def keeps(action: Action) -> bool:
        match action:
            case Compute(node=node, microbatch=m):
                return (node.module, m) not in erased
            case Transfer(link=link, exchange=exchange):
                source = link.source.module, stages.source_microbatch(link, exchange)
                target = link.target.module, stages.target_microbatch(link, exchange)
                return not {source, target} & erased
        return True

    return keeps


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(plans(max_world=8), st.integers(0, 2**32))
def test_a_template_with_every_option_holds_however_it_is_erased(plan: Plan, seed: int) -> None:
    """Design D3; `pytest -m sweep` draws 10,000."""
    erase_at_random(plan, seed, times=5)


@pytest.mark.sweep
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(plans(max_world=8), st.integers(0, 2**32))
def test_ten_thousand_erasures_hold(plan: Plan, seed: int) -> None:
    erase_at_random(plan, seed, times=100)


def erase_at_random(plan: Plan, seed: int, times: int) -> None:
    dice, stages = random.Random(seed), plan.stages
    cells = [(name, m) for name in plan.graph.modules for m in range(stages.count(name, plan.microbatches))]
    for _ in range(times):
        share = dice.random()
        erased = {cell for cell in cells if dice.random() < share}
        check_programs(plan, plan.schedule.keep(erasing(plan, erased)).programs, bounds=plan.schedule.bounds)


def test_a_proof_prints_its_numbers() -> None:
    plan = small_plan()
    text = str(check_plan(plan, plan.batch(0, uniform_packs(4))))
    assert "proved: " in text
    assert "4 ranks" in text
    assert "16 rows delivered once each" in text
    assert "in flight at most: language.0 2, vision.0 2" in text


def test_programs_print_one_line_per_distinct_program() -> None:
    text = format_programs(small_plan(microbatches=1).schedule.programs)
    vision = "vision.0F0  vision.0>language.0F0  vision.0>language.0B0  vision.0B0  vision.0R  S"
    language = "vision.0>language.0F0  language.0F0  language.0B0  language.0R  vision.0>language.0B0  S"
    assert text.splitlines() == [f"rank 0-1 | {vision}", f"rank 2-3 | {language}"]


def test_an_edge_free_plan_of_one_rank_holds() -> None:
    assert check_plan(chain_plan(1, 2, "1f1b")).posts == 0
