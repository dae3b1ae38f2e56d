"""Schedules: the textbook order on a chain, and what holds for every graph and placement."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import action_ranks
from tests.unit.plan.strategies import LANGUAGE, chain_plan, plans, random_packs


def computes(program: tuple[Action, ...]) -> list[str]:
    return [f"{a.direction}{a.microbatch}" for a in program if isinstance(a, Compute)]


def textbook_1f1b(stage: int, stages: int, microbatches: int) -> list[str]:
    """Megatron's order: warm-up forwards, one forward one backward, the remaining backwards."""
    warmup = min(stages - stage - 1, microbatches)
    order = [f"F{m}" for m in range(warmup)]
    for m in range(microbatches - warmup):
        order += [f"F{warmup + m}", f"B{m}"]
    return order + [f"B{m}" for m in range(microbatches - warmup, microbatches)]


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("microbatches", [1, 2, 4, 5, 12])
def test_1f1b_on_a_chain_is_the_textbook_order(stages: int, microbatches: int) -> None:
    programs = chain_plan(stages, microbatches, "1f1b").schedule.programs
    for stage in range(stages):
        assert computes(programs[stage]) == textbook_1f1b(stage, stages, microbatches)


@pytest.mark.parametrize(("stages", "microbatches"), [(1, 3), (3, 1), (4, 6)])
def test_gpipe_on_a_chain_is_all_forwards_then_all_backwards(stages: int, microbatches: int) -> None:
    expected = [f"{way}{m}" for way in "FB" for m in range(microbatches)]
    for program in chain_plan(stages, microbatches, "gpipe").schedule.programs.values():
        assert computes(program) == expected


@given(plans())
def test_every_action_stands_once_on_each_of_its_ranks(plan: Plan) -> None:
    for schedule in (plan.schedule, plan.evaluation):
        assert len(set(schedule.order)) == len(schedule.order)
        for rank, program in schedule.programs.items():
            mine = tuple(a for a in schedule.order if rank in action_ranks(a, plan.stages))
            assert program == mine
            assert program[-1] == Step()


@given(plans())
def test_templates_hold_every_microbatch_of_every_node_and_link(plan: Plan) -> None:
    def of(ways: tuple[Direction, ...]) -> set[Action]:
        cells = [(way, microbatch) for way in ways for microbatch in range(plan.microbatches)]
        computes = {Compute(node, way, m) for node in plan.stages.nodes for way, m in cells}
        return computes | {Transfer(link, way, m) for link in plan.stages.links for way, m in cells} | {Step()}

    assert set(plan.schedule.order) == of(tuple(Direction)) | {Reduce(node) for node in plan.stages.nodes}
    assert set(plan.evaluation.order) == of((Direction.FORWARD,))


@given(plans(), st.integers(0, 2**16))
def test_a_step_erases_whole_actions_and_keeps_the_order(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    step = plan.of_step(plan.schedule, batch)
    kept = set(step.order)
    assert step.order == tuple(action for action in plan.schedule.order if action in kept)
    for rank, program in step.programs.items():
        assert program == tuple(action for action in plan.schedule.programs[rank] if action in kept)
    assert {Reduce(node) for node in plan.stages.nodes} < kept


def test_an_encoder_runs_ahead_by_the_depth_of_the_graph() -> None:
    plan = chain_plan(3, 4, "1f1b")
    assert [plan.stages.depth(Node(LANGUAGE, stage)) for stage in range(3)] == [3, 2, 1]
