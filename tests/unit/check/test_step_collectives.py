"""The proof has the sums of partial gradients and tied copies where they happen: in the step action."""

from pathlib import Path

from counterpoint.check.events import Collective, expand
from counterpoint.check.proof import check_plan
from counterpoint.config.load import load_config
from counterpoint.plan.plan import Plan
from counterpoint.plan.schedule import Schedule
from counterpoint.setup.run import build_plan

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"


def plan_of(size: int, *overrides: str) -> Plan:
    return build_plan(load_config(TINY, [f"world.size={size}", *overrides]))


def collectives(plan: Plan, schedule: Schedule, rank: int, action: str) -> list[tuple[int, ...]]:
    events = expand(plan, schedule.programs)[rank]
    return [event.ranks for event in events if isinstance(event, Collective) and str(event.action) == action]


def test_partial_gradients_are_summed_by_the_step() -> None:
    plan = plan_of(5, "modules.language.layout={ranks: [1, 2, 3, 4], tp: 2}")
    assert collectives(plan, plan.schedule, 1, "language.0R") == [(1, 3)]
    assert collectives(plan, plan.schedule, 1, "S") == [(1, 2), (0, 1, 2, 3, 4)]
    check_plan(plan)


def test_what_is_not_trained_sums_nothing() -> None:
    plan = plan_of(5, "modules.language.layout={ranks: [1, 2, 3, 4], tp: 2}", "modules.language.train=none")
    assert collectives(plan, plan.schedule, 1, "S") == [(0, 1, 2, 3, 4)]


def test_an_embedding_that_is_not_trained_is_not_tied() -> None:
    """The first stage trains something else and the last one nothing at all."""
    layout = "modules.language.layout={ranks: [1, 2], pp: 2}"
    plan = plan_of(3, layout, "modules.language.train=['layers.0.attention.q.weight']")
    assert collectives(plan, plan.schedule, 1, "S") == [(0, 1, 2)]
    assert [c.name for c in plan.communicators if c.name.endswith("[1,2]")] == []
    check_plan(plan)


def test_modules_sum_one_behind_the_other() -> None:
    vision, language = "modules.vision.layout={ranks: [0, 1], tp: 2}", "modules.language.layout={ranks: [1, 2], tp: 2}"
    plan = plan_of(3, vision, language, "world.partial_overlap=true")
    assert collectives(plan, plan.schedule, 1, "S") == [(0, 1), (1, 2), (0, 1, 2)]
    check_plan(plan)


def test_sums_on_one_communicator_are_one_event() -> None:
    plan = plan_of(2, *(f"modules.{module}.layout={{ranks: [0, 1], tp: 2}}" for module in ("vision", "language")))
    assert collectives(plan, plan.schedule, 1, "S") == [(0, 1)]
    check_plan(plan)


def test_evaluation_sums_a_loss_and_nothing_else() -> None:
    plan = plan_of(3, "modules.language.layout={ranks: [1, 2], pp: 2}")
    assert collectives(plan, plan.schedule, 1, "S") == [(1, 2), (0, 1, 2)]
    assert collectives(plan, plan.evaluation, 1, "S") == [(0, 1, 2)]
