"""Filling: near a lower bound, never worse than 1F1B, within the memory bound; the lower bound is below the optimum."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.action import Action, Compute, Work
from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.filling import fill, orders
from counterpoint.plan.graph import Link, Node
from counterpoint.plan.least_time import heads, jackson, least_time
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import SCHEDULES, limits_of
from counterpoint.plan.stages import EncoderOrder, StageCosts, Stages
from counterpoint.plan.step_order import kept
from counterpoint.plan.step_tasks import tasks_of
from counterpoint.plan.tasks import Limits, Tasks
from counterpoint.simulate.clock import simulate
from tests.asked import asked
from tests.unit.plan.drawn import drawn_plan, facts_of
from tests.unit.plan.strategies import LANGUAGE, plan_of
from tests.unit.plan.test_builders import graphs

ENCODERS: tuple[EncoderOrder, ...] = ("first", "just_in_time", "fill")


MEETINGS: dict[str, dict[str, Any]] = {
    "apart": {}, "reshard": {"reshard": True}, "tp": {"tp": 4, "dp_shard": 1}, "cp": {"cp": 4, "dp_shard": 1},
    "tp_of_pairs": {"tp": 2, "dp_shard": 2}, "cp_of_pairs": {"cp": 2, "dp_shard": 2}, "experts": {"ep": 2},
}  # fmt: skip
"""Layouts of an encoder on four ranks, of which all but the first let its ranks communicate in every compute."""


def colocated(
    pp: int,
    microbatches: int,
    kind: str = "filled",
    encoder: EncoderOrder = "just_in_time",
    buffer: int | None = None,
    layout: str = "apart",
) -> Plan:
    """Language pp with a ViT of a third of its FLOPs, which is on all of its ranks."""
    ranks = tuple(range(pp))
    vision = asked("vision", ranks=ranks, **{"dp_shard": pp, **MEETINGS[layout]})
    placement = place(pp, (vision, asked(LANGUAGE, ranks=ranks, pp=pp)))
    plan = plan_of(placement, {layout.module: ModuleRows(layout) for layout in placement.layouts}, kind, microbatches)
    facts = {"vision": facts_of(("moe.experts.up", "mlp.up"))} if layout == "experts" else {}
    return replace(plan, encoder=encoder, buffer=buffer, weights={"vision": 1, LANGUAGE: 3}, facts=facts)


def tasks(stages: Stages, microbatches: int) -> Tasks:
    return tasks_of(stages, microbatches, limits_of(stages, microbatches))


def numbers(tasks: Tasks, order: tuple[Action, ...]) -> tuple[int, ...]:
    """The tasks of an order's computes."""
    number = {action: task for task, action in enumerate(tasks.actions)}
    return tuple(number[action] for action in order if isinstance(action, Compute))


@pytest.mark.parametrize(
    ("microbatches", "buffer"),
    [*((m, buffer) for m in (4, 8, 16, 32) for buffer in (None, 4, 5, 8) if buffer is None or buffer < m)],
)
def test_a_filled_step_is_within_a_tenth_of_the_lower_bound(microbatches: int, buffer: int | None) -> None:
    plan = colocated(4, microbatches, buffer=buffer)
    least = least_time(tasks(plan.stages, microbatches)) / plan.stages.unit_scale
    assert least <= simulate(plan).makespan <= 1.1 * least


@pytest.mark.parametrize("pp", [2, 3, 4])
@pytest.mark.parametrize("microbatches", [1, 3, 8])
@pytest.mark.parametrize("buffer", [None, 2, 5])
def test_a_filled_step_takes_no_longer_than_1f1b_at_the_same_bound(
    pp: int, microbatches: int, buffer: int | None
) -> None:
    filled = colocated(pp, microbatches, buffer=buffer)
    for encoder in ENCODERS[buffer is not None :]:
        other = colocated(pp, microbatches, "1f1b", encoder, buffer)
        assert simulate(filled).makespan <= simulate(other).makespan
        if microbatches == 8 and buffer is None:
            assert simulate(filled).makespan < simulate(other).makespan


@pytest.mark.parametrize("layout", MEETINGS)
@pytest.mark.parametrize("microbatches", [1, 3, 8, 16])
def test_a_filled_step_of_ranks_that_communicate_takes_no_longer_than_1f1b(layout: str, microbatches: int) -> None:
    filled = simulate(colocated(4, microbatches, layout=layout)).makespan
    for encoder in ENCODERS:
        assert filled <= simulate(colocated(4, microbatches, "1f1b", encoder, layout=layout)).makespan


@pytest.mark.parametrize("layout", ["apart", "reshard", "tp", "cp"])
def test_a_filled_step_of_ranks_that_all_communicate_begins_together_and_is_shorter_than_1f1b(layout: str) -> None:
    filled = simulate(colocated(4, 16, layout=layout)).makespan
    assert filled < min(simulate(colocated(4, 16, "1f1b", encoder, layout=layout)).makespan for encoder in ENCODERS)


@pytest.mark.parametrize("layout", MEETINGS)
@pytest.mark.parametrize("kind", ["gpipe", "1f1b", "filled"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_its_clock_is_that_of_the_simulator(layout: str, kind: str, encoder: EncoderOrder) -> None:
    plan = colocated(4, 6, kind, encoder, layout=layout)
    step = tasks(plan.stages, 6)
    assert step.makespan(numbers(step, plan.schedule.order)) == simulate(plan).makespan


@pytest.mark.parametrize("seed", [*range(60), 211, 397])
def test_of_drawn_plans_its_clock_is_that_of_the_simulator(seed: int) -> None:
    """It is behind where ranks of a team differ in whom they meet, and the clock lets all of them wait."""
    with drawn_plan(seed, max_world=12) as plan:
        plan = plan if plan.kind != "zero_bubble" else replace(plan, kind="filled")
        step = tasks(plan.stages, plan.microbatches)
        clock = step.makespan(numbers(step, plan.schedule.order)) / plan.stages.unit_scale
        played = simulate(plan).makespan
        assert clock > played if seed in (211, 397) else clock == pytest.approx(played)


@given(graphs(), st.integers(1, 6))
def test_a_filled_step_keeps_its_bound_and_is_no_longer_than_any_1f1b_that_does(stages: Stages, m: int) -> None:
    step = tasks(stages, m)
    filled = numbers(step, SCHEDULES["filled"].build(stages, m).order)
    assert step.keeps(filled)
    for encoder in ENCODERS[stages.buffer is not None :]:
        other = numbers(step, SCHEDULES["1f1b"].build(replace(stages, encoder=encoder), m).order)
        if step.keeps(other):
            assert step.makespan(filled) <= step.makespan(other)


@given(graphs(), st.integers(1, 5))
def test_every_rule_makes_an_order_that_keeps_the_bound(stages: Stages, m: int) -> None:
    step = tasks(stages, m)
    least, busiest = least_time(step), [0] * step.num_teams
    for task, teams in enumerate(step.teams):
        for team in teams:
            busiest[team] += step.units[task]
    assert least >= max(busiest)
    assert least >= max(head + cost for head, cost in zip(heads(step), step.units, strict=True))
    for order in orders(step):
        assert step.keeps(order)
        assert sorted(order) == list(range(len(step.actions)))
        assert all(order.index(read) < place for place, task in enumerate(order) for read in step.reads[task])
        assert step.makespan(order) >= least


@pytest.mark.parametrize("buffer", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("trains", [True, False])
def test_an_encoder_keeps_no_more_than_its_buffer(buffer: int, trains: bool) -> None:
    plan = colocated(3, 8, buffer=buffer)
    stages = replace(
        plan.stages,
        trained=None if trains else frozenset(n for n in plan.stages.nodes if n.stage or n.module == LANGUAGE),
    )
    schedule = SCHEDULES["filled"].build(stages, 8)
    assert schedule.bounds == kept(stages, 8, schedule.order)
    for node in stages.nodes:
        assert schedule.bounds[node] <= (buffer if node.module == "vision" else stages.depth(node))


def test_a_shorter_order_that_breaks_the_bound_is_not_taken() -> None:
    stages, given = colocated(3, 4).stages, SCHEDULES["gpipe"].build(colocated(3, 4).stages, 4).order
    limits = Limits(dict.fromkeys(stages.nodes, 1), {})
    step = tasks_of(stages, 4, limits)
    order = fill(stages, 4, (limits,), (given,))
    assert step.keeps(numbers(step, order))
    assert not step.keeps(numbers(step, given))
    assert step.makespan(numbers(step, given)) < step.makespan(numbers(step, order))


def test_costs_of_stages_decide_where_encoders_run() -> None:
    stages = colocated(2, 6).stages
    light = {n: StageCosts(1, 1, 1) if n.module == "vision" else StageCosts(9, 9, 9) for n in stages.nodes}
    heavy = {n: StageCosts(9, 9, 9) if n.module == "vision" else StageCosts(1, 1, 1) for n in stages.nodes}
    programs = [SCHEDULES["filled"].build(replace(stages, costs=costs), 6).programs[0] for costs in (light, heavy)]
    assert programs[0] != programs[1]
    step = tasks(replace(stages, costs=light), 6)
    assert {step.units[n] for n, a in enumerate(step.actions) if a.node.module == "vision"} == {1, 2}


def test_jackson_interrupts_for_the_longer_tail() -> None:
    assert jackson([]) == 0
    assert jackson([(0, 4, 0), (1, 2, 7)]) == 10
    assert jackson([(5, 1, 0), (0, 2, 1)]) == 6


def tiny(apart: bool, trains: bool) -> Stages:
    """Two stages of a language model and an encoder on both of their ranks, or on one of its own."""
    vision, language = Node("vision", 0), [Node(LANGUAGE, 0), Node(LANGUAGE, 1)]
    ranks = {vision: (2,) if apart else (0, 1), language[0]: (0,), language[1]: (1,)}
    links = (*(Link(*pair) for pair in pairwise(language)), Link(vision, language[0]))
    trained = frozenset(language) | ({vision} if trains else frozenset())
    return Stages((vision, *language), links, ranks, trained=trained, weights={LANGUAGE: 2})


def optimum(step: Tasks) -> int:
    """The least makespan of any order, by trying all."""
    before = [set(reads) | set(follows) for reads, follows in zip(step.reads, step.follows, strict=True)]
    for queue in step.queues:
        for one, other in pairwise(queue.tasks):
            before[other].add(one)

    def extended(order: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        done = set(order)
        for task in range(len(before)):
            if task not in done and before[task] <= done:
                yield (*order, task)

    best, stack = 10**9, list[tuple[int, ...]]([()])
    while stack:
        order = stack.pop()
        if len(order) == len(before):
            best = min(best, step.makespan(order))
        elif step.makespan(order) < best:
            stack += extended(order)
    return best


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("trains", [True, False])
def test_of_a_tiny_step_the_bound_is_below_the_optimum_and_filling_at_it(apart: bool, trains: bool) -> None:
    stages = tiny(apart, trains)
    best = {}
    for most in (1, 2):
        limits = Limits({node: most for node in stages.nodes}, {})
        step = tasks_of(stages, 2, limits)
        best[most] = optimum(step)
        assert least_time(step) <= best[most] <= min(map(step.makespan, orders(step)))
    # More memory, another resource, never makes the optimum worse.
    assert best[2] <= best[1]
    step = tasks(stages, 2)
    assert step.makespan(numbers(step, SCHEDULES["filled"].build(stages, 2).order)) == optimum(step)


def test_another_rank_for_the_encoder_never_makes_the_optimum_worse() -> None:
    for trains in (True, False):
        alone, shared = (tasks(tiny(apart, trains), 2) for apart in (True, False))
        # On a rank of its own the encoder has all of the work that two ranks shared.
        halves = replace(alone, units=tuple(
            2 * cost if action.node.module == "vision" else cost
            for action, cost in zip(alone.actions, alone.units, strict=True)
        ))  # fmt: skip
        assert optimum(alone) <= optimum(shared)
        assert optimum(alone) <= optimum(halves)


def test_a_frozen_encoder_that_runs_ahead_fills_gaps_of_the_step_before() -> None:
    """Nothing waits for it in its own step: beside the language model it takes no time, on its ranks only what does not
    fit into their gaps."""
    vision, language = Node("vision", 0), [Node(LANGUAGE, stage) for stage in range(3)]
    for ranks, beyond in ((3,), 0), ((0, 1, 2), 2):
        stages = Stages(
            (vision, *language),
            (*(Link(*pair) for pair in pairwise(language)), Link(vision, language[0])),
            {vision: ranks, **{node: (node.stage,) for node in language}},
            trained=frozenset(language),
            ahead={"vision": 1},
        )
        step = tasks(stages, 4)
        filled = SCHEDULES["filled"].build(stages, 4)
        assert step.makespan(numbers(step, filled.order)) == 3 * (4 + 2) + beyond
        assert {a.ahead for a in filled.order if isinstance(a, Compute) and a.node == vision} == {1}
        assert all(a.work is Work.FORWARD for a in filled.order if isinstance(a, Compute) and a.node == vision)
