"""The proof knows that losses of items sum means over a lane: in the forward of a last stage, nowhere else."""

from typing import Any

import pytest

from counterpoint.check.events import Collective, expand
from counterpoint.check.proof import check_plan
from counterpoint.config.load import load_config
from counterpoint.plan.plan import Plan
from counterpoint.setup.run import build_plan
from tests.parity.layouts import TINY, override, pair, ranks

LANE = (4, 5, 6, 7)
"""The ranks of the last stage, which share a lane over cp and tp."""


def plan_with(loss: dict[str, Any] | None) -> Plan:
    vision = {"ranks": ranks(0, 8), "pp": 2, "cp": 2, "tp": 2}
    config = override(load_config(TINY), pair(9, vision, {"ranks": [8]}))
    return build_plan(override(config, {"modules.vision.losses": [] if loss is None else [loss]}))


def collectives(plan: Plan, rank: int, action: str) -> set[tuple[int, ...]]:
    events = expand(plan, plan.schedule.programs)[rank]
    return {event.ranks for event in events if isinstance(event, Collective) and str(event.action) == action}


def test_means_are_summed_in_the_last_forward() -> None:
    plan = plan_with({"kind": "regression", "targets": "a", "of": "items"})
    assert LANE in {communicator.ranks for communicator in plan.communicators}
    assert [LANE in collectives(plan, 4, f"vision.1{work}1") for work in "FB"] == [True, False]
    assert LANE not in collectives(plan, 0, "vision.0F1")
    assert (0, 1, 2, 3) not in {communicator.ranks for communicator in plan.communicators}
    check_plan(plan)


@pytest.mark.parametrize("loss", [None, {"kind": "regression", "targets": "a", "of": "rows"}])
def test_nothing_else_is(loss: dict[str, Any] | None) -> None:
    plan = plan_with(loss)
    assert LANE not in {communicator.ranks for communicator in plan.communicators}
    assert LANE not in collectives(plan, 4, "vision.1F1")
