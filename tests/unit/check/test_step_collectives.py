"""The proof has the sums of partial gradients and tied copies where they happen: in the step action."""

from pathlib import Path

from counterpoint.check.events import Collective, expand
from counterpoint.check.fifo import check_fifos
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


MUON = "modules.language.optimizer={kind: muon, lr: 1.0e-3}"


def test_the_ranks_of_a_stage_exchange_what_muon_makes_orthogonal() -> None:
    """On a communicator of their own, behind the sums of all."""
    plan = plan_of(5, "modules.language.layout={ranks: [1, 2, 3, 4], tp: 2}", MUON)
    assert collectives(plan, plan.schedule, 1, "S") == [(1, 2), (0, 1, 2, 3, 4), (1, 2, 3, 4)]
    assert [c.ranks for c in plan.communicators if len(c.ranks) == 4 and not c.is_transfer] == [(1, 2, 3, 4)]
    assert collectives(plan, plan.evaluation, 1, "S") == [(0, 1, 2, 3, 4)]
    check_plan(plan)


def test_each_stage_exchanges_by_itself() -> None:
    plan = plan_of(5, "modules.language.layout={ranks: [1, 2, 3, 4], pp: 2}", MUON)
    assert collectives(plan, plan.schedule, 1, "S") == [(1, 3), (0, 1, 2, 3, 4), (1, 2)]
    assert collectives(plan, plan.schedule, 4, "S") == [(2, 4), (0, 1, 2, 3, 4), (3, 4)]
    check_plan(plan)


def test_exchanges_on_a_communicator_that_was_used_before_are_events_of_their_own() -> None:
    """In the order of modules, whoever shares ranks."""
    layouts = [f"modules.{module}.layout={{ranks: [0, 1], tp: 2}}" for module in ("vision", "language")]
    plan = plan_of(2, *layouts, MUON, MUON.replace("language", "vision"))
    assert collectives(plan, plan.schedule, 1, "S") == [(0, 1), (0, 1), (0, 1)]
    entries = [event.entry for event in expand(plan, plan.schedule.programs)[1] if isinstance(event, Collective)]
    assert len(entries) == len(set(entries))
    check_plan(plan)


def test_without_a_hidden_matrix_that_is_trained_nothing_is_exchanged() -> None:
    for train in ("none", "['*norm*']", "[embed.weight]"):
        plan = plan_of(3, "modules.language.layout={ranks: [1, 2]}", MUON, f"modules.language.train={train}")
        assert collectives(plan, plan.schedule, 1, "S") == [(0, 1, 2)]
        check_plan(plan)


def test_ranks_that_exchange_in_another_order_are_found_out() -> None:
    """Vision and language share rank 1; there the order of modules is turned around."""
    vision, language = "modules.vision.layout={ranks: [0, 1, 2]}", "modules.language.layout={ranks: [1, 2, 3]}"
    plan = plan_of(4, vision, language, "world.partial_overlap=true", MUON, MUON.replace("language", "vision"))
    events = expand(plan, plan.schedule.programs)
    assert check_fifos(events) is None
    stream = list(events[1])
    posts = [n for n, event in enumerate(stream) if isinstance(event, Collective) and str(event.action) == "S"]
    first, second = posts[-2:]
    stream[first : first + 2], stream[second : second + 2] = stream[second : second + 2], stream[first : first + 2]
    assert check_fifos({**events, 1: tuple(stream)}) is not None
