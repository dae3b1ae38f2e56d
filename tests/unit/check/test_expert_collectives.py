"""The proof knows the collectives of experts, in the stages that have them and in no other."""

from pathlib import Path

import pytest

from counterpoint.check.events import Collective, expand
from counterpoint.check.proof import check_plan
from counterpoint.config.load import load_config
from counterpoint.plan.plan import Plan
from counterpoint.setup.run import build_plan

HYBRID = Path(__file__).parents[2] / "parity" / "hybrid.yaml"


def plan_of(layout: str) -> Plan:
    return build_plan(load_config(HYBRID, ["world.size=9", f"modules.language.layout={layout}"]))


def on_ranks(plan: Plan, rank: int, action: str) -> set[tuple[int, ...]]:
    events = expand(plan, plan.schedule.programs)[rank]
    return {event.ranks for event in events if isinstance(event, Collective) and str(event.action) == action}


def test_rows_counts_and_parameters_of_experts_have_their_communicators() -> None:
    plan = plan_of("{ranks: [1,2,3,4,5,6,7,8], cp: 2, tp: 2, expert: {ep: 4}}")
    found = on_ranks(plan, 2, "language.0F0")
    assert {(1, 2, 3, 4), (2, 6)} <= found
    assert {(2, 4), (1, 2)} <= found
    assert (2, 6) in on_ranks(plan, 2, "language.0R")
    names = {communicator.ranks for communicator in plan.communicators}
    assert found <= names
    check_plan(plan)


@pytest.mark.parametrize(("stage", "has"), [(0, False), (1, True)])
def test_a_stage_without_experts_has_none(stage: int, has: bool) -> None:
    plan = plan_of("{ranks: [1,2,3,4,5,6,7,8], pp: 2, split: [1, 6], expert: {ep: 4}}")
    ranks = tuple(range(1 + 4 * stage, 5 + 4 * stage))
    (node,) = (node for node in plan.stages.nodes if str(node) == f"language.{stage}")
    assert plan.has_experts(node) is has
    # Without experts these ranks share parameters only, once; with them rows too, at every forward.
    assert (ranks in on_ranks(plan, ranks[0], f"language.{stage}F1")) is has
