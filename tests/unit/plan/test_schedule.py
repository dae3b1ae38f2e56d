"""Schedules: the textbook order on a chain, and what holds for every graph and placement."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.stages import action_ranks
from tests.unit.plan.strategies import LANGUAGE, chain_plan, plans, random_packs


def computes(program: tuple[Action, ...]) -> list[str]:
    return [f"{a.work}{a.microbatch}" for a in program if isinstance(a, Compute)]


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
    stages, wanted = plan.stages, set[Action]({Step()})
    for node in stages.nodes:
        for m in range(stages.count(node.module, plan.microbatches)):
            wanted.add(Compute(node, Work.FORWARD, m, stages.steps_ahead(node)))
            if stages.has_backward(node):
                wanted |= {Compute(node, work, m) for work in backwards(plan, node)}
        if stages.trains(node):
            wanted.add(Reduce(node))
    for link in stages.links:
        runs_ahead = stages.steps_ahead(link.source) if stages.steps_ahead(link.target) else 0
        for exchange in range(stages.exchanges(link, plan.microbatches)):
            wanted.add(Transfer(link, Direction.FORWARD, exchange, runs_ahead))
            if stages.has_backward(link.source):
                wanted.add(Transfer(link, Direction.BACKWARD, exchange))
    assert set(plan.schedule.order) == wanted


@given(plans())
def test_evaluation_holds_every_forward(plan: Plan) -> None:
    stages = plan.stages
    computes = {
        Compute(node, Work.FORWARD, m)
        for node in stages.nodes
        for m in range(stages.count(node.module, plan.microbatches))
    }
    transfers = {
        Transfer(link, Direction.FORWARD, exchange)
        for link in stages.links
        for exchange in range(stages.exchanges(link, plan.microbatches))
    }
    assert set(plan.evaluation.order) == {*computes, *transfers, Step()}


def backwards(plan: Plan, node: Node) -> set[Work]:
    """The works of which a node's backward is made."""
    if plan.kind != "zero_bubble":
        return {Work.BACKWARD}
    return {Work.INPUT, Work.WEIGHT} if plan.stages.trains(node) else {Work.INPUT}


@given(plans(), st.integers(0, 2**16))
def test_a_step_erases_whole_actions_and_keeps_the_order(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    step = plan.of_step(plan.schedule, batch, batch)
    kept = set(step.order)
    assert step.order == tuple(action for action in plan.schedule.order if action in kept)
    for rank, program in step.programs.items():
        assert program == tuple(action for action in plan.schedule.programs[rank] if action in kept)
    assert {Reduce(node) for node in plan.stages.nodes if plan.stages.trains(node)} < kept


@given(plans(), st.integers(0, 2**16))
def test_a_step_keeps_what_has_rows_and_needs_a_gradient(plan: Plan, seed: int) -> None:
    """By routes alone: an exchange has rows to copy, and a gradient goes back to whatever made such rows and trains."""
    stages, batch = plan.stages, plan.batch(0, random_packs(plan, seed))
    kept = set(plan.of_step(plan.schedule, batch, batch).order)
    crossed = {
        (link, exchange)
        for link in stages.links
        for exchange in range(stages.exchanges(link, plan.microbatches))
        if plan.route(batch, link, exchange).copies
    }

    def needs_gradient(node: Node, microbatch: int) -> bool:
        read = [(a, b) for a, b in crossed if a.target == node and stages.target_microbatch(a, b) == microbatch]
        return stages.trains(node) or any(needs_gradient(a.source, stages.source_microbatch(a, b)) for a, b in read)

    for action in plan.schedule.order:
        match action:
            case Transfer(link=link, direction=direction, exchange=exchange):
                expected = (link, exchange) in crossed
                if direction is Direction.BACKWARD:
                    expected = expected and needs_gradient(link.source, stages.source_microbatch(link, exchange))
            case Compute(node=node, work=work, microbatch=microbatch):
                expected = not batch.is_empty(node.module, microbatch)
                if work in (Work.BACKWARD, Work.INPUT):
                    expected = expected and needs_gradient(node, microbatch)
            case _:
                expected = True
        assert (action in kept) is expected, action


def test_an_encoder_runs_ahead_by_the_depth_of_the_graph() -> None:
    plan = chain_plan(3, 4, "1f1b")
    assert [plan.stages.depth(Node(LANGUAGE, stage)) for stage in range(3)] == [3, 2, 1]


def megatrons_order(place: int, places: int, chunks: int, microbatches: int) -> list[str]:
    """Interleaved 1F1B as Megatron-LM lays it out, for microbatches that are a multiple of the places."""
    total, width = microbatches * chunks, places * chunks

    def cell(number: int, forward: bool) -> str:
        chunk, m = number % width // places, number // width * places + number % places
        chunk = chunk if forward else chunks - 1 - chunk
        return f"{chunk * places + place}{'F' if forward else 'B'}{m}"

    warm_up = min((places - place - 1) * 2 + (chunks - 1) * places, total)
    order = [cell(number, forward=True) for number in range(warm_up)]
    for number in range(total - warm_up):
        order += [cell(warm_up + number, forward=True), cell(number, forward=False)]
    return order + [cell(number, forward=False) for number in range(total - warm_up, total)]


@pytest.mark.parametrize("places", [2, 3, 4])
@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_interleaved_on_a_chain_is_megatrons_order(places: int, chunks: int, rounds: int) -> None:
    plan = chain_plan(places, places * rounds, "interleaved", chunks)
    for place, program in plan.schedule.programs.items():
        order = [f"{a.node.stage}{a.work}{a.microbatch}" for a in program if isinstance(a, Compute)]
        assert order == megatrons_order(place, places, chunks, places * rounds)


@pytest.mark.parametrize("kind", ["1f1b", "interleaved", "zero_bubble"])
def test_a_schedule_of_many_ranks_and_chunks_is_made(kind: str) -> None:
    chunks = 1 if kind == "1f1b" else 4
    plan = chain_plan(64, 64, kind, chunks)
    assert len(plan.schedule.order) > 64 * 64 * chunks * 2
