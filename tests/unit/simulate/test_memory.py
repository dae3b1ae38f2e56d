"""Memory from sizes: shards, replicas, stages and microbatches in flight."""

import pytest
from hypothesis import given

from counterpoint.plan.batch import ModuleRows
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from counterpoint.simulate.clock import simulate
from counterpoint.simulate.memory import ModuleMemory, RankMemory, largest_rows, memory
from tests.asked import asked
from tests.unit.plan.strategies import (
    LANGUAGE,
    chain_plan,
    plan_of,
    plans,
    random_packs,
    small_plan,
    uniform_packs,
)


def language_plan(**degrees: int) -> Plan:
    size = 1
    for degree in degrees.values():
        size *= degree
    placement = place(size, (asked(LANGUAGE, reshard=True, **degrees),))
    return plan_of(placement, {LANGUAGE: ModuleRows(placement.layouts[0])}, "gpipe", 2)


def used(plan: Plan, parameters: tuple[int, ...] = (100, 300)) -> RankMemory:
    sizes = {LANGUAGE: ModuleMemory(part_parameters=parameters, activation_bytes=10)}
    return memory(plan, sizes, {LANGUAGE: 64}, simulate(plan).in_flight)[0]


def test_one_rank_holds_everything() -> None:
    held = used(language_plan(dp_shard=1))
    assert held == RankMemory(1600, 1600, 3200, 0, 64 * 2 * 10 * 2)
    assert held.total_bytes == 1600 + 1600 + 3200 + 2560


def test_shards_replicas_and_tensor_parallelism_divide() -> None:
    assert used(language_plan(dp_shard=4)).parameter_bytes == 400
    assert used(language_plan(dp_shard=4)).gathered_bytes == 1600
    assert used(language_plan(dp_replicate=4, dp_shard=1)).parameter_bytes == 1600
    tensor = used(language_plan(tp=4, dp_shard=1))
    assert (tensor.parameter_bytes, tensor.gradient_bytes, tensor.activation_bytes) == (400, 400, 640)


def test_experts_divide_by_their_own_view() -> None:
    placement = place(4, (asked(LANGUAGE, tp=2, ep=2, etp=2),))
    plan = plan_of(placement, {LANGUAGE: ModuleRows(placement.layouts[0])}, "gpipe", 1)
    sizes = {
        LANGUAGE: ModuleMemory(
            part_parameters=(100, 900), part_expert_parameters=(0, 800), activation_bytes=0, parameter_bytes=1,
        )
    }  # fmt: skip
    (held, *_others) = memory(plan, sizes, {LANGUAGE: 0}, {}).values()
    assert held.parameter_bytes == 200 // 2 // 2 + 800 // 4
    assert held.gathered_bytes == 4 * (200 // 2 + 800 // 4)


def test_stages_hold_their_own_parts_and_microbatches() -> None:
    plan = chain_plan(2, 4, "1f1b")
    sizes = {LANGUAGE: ModuleMemory(part_parameters=(1, 2, 3, 4), activation_bytes=1)}
    first, last = memory(plan, sizes, {LANGUAGE: 8}, simulate(plan).in_flight).values()
    assert (first.parameter_bytes, last.parameter_bytes) == (12, 28)
    assert (first.activation_bytes, last.activation_bytes) == (32, 16)


@given(plans())
def test_every_rank_with_a_module_needs_memory(plan: Plan) -> None:
    sizes = {
        module: ModuleMemory(part_parameters=(5,) * 2 * layout.stages, activation_bytes=3)
        for module, layout in plan.layouts.items()
    }
    rows = largest_rows(plan, plan.batch(0, random_packs(plan, 1)))
    held = memory(plan, sizes, rows, simulate(plan).in_flight)
    assert tuple(sorted(held)) == plan.placement.active
    assert all(m.parameter_bytes > 0 and m.total_bytes >= m.parameter_bytes for m in held.values())


def test_largest_rows_are_those_of_the_fullest_lane() -> None:
    plan = small_plan()
    assert largest_rows(plan, plan.batch(0, uniform_packs(4))) == {"vision": 4, "language": 24}


def test_colocated_modules_add_up() -> None:
    one = RankMemory(1, 2, 3, 4, 5)
    assert (one + one).total_bytes == 2 * one.total_bytes == pytest.approx(30)


def test_moments_are_counted_part_by_part() -> None:
    sizes = {LANGUAGE: ModuleMemory(part_parameters=(100, 300), activation_bytes=0, part_moments=(2.0, 1.0))}
    plan = language_plan(dp_shard=1)
    assert memory(plan, sizes, {LANGUAGE: 0}, {})[0].optimizer_bytes == 4 * (2 * 100 + 300)


def test_what_waits_on_the_host_passes_the_device_once_however_much_is_in_flight() -> None:
    plan, sizes = language_plan(dp_shard=1), (100, 300)
    passing = ModuleMemory(part_parameters=sizes, activation_bytes=10, passing_bytes=7)
    (held, *_others) = memory(plan, {LANGUAGE: passing}, {LANGUAGE: 64}, simulate(plan).in_flight).values()
    assert held.activation_bytes == 64 * (2 * 10 * 2 + 7)
