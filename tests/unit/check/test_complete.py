"""A template that lacks an action on all ranks alike is refused."""

from dataclasses import replace

import pytest

from counterpoint.check.complete import check_complete
from counterpoint.plan.action import parse_action
from counterpoint.plan.plan import Plan
from counterpoint.plan.trainability import TrainedPart
from tests.unit.plan.strategies import small_plan


def frozen_ahead() -> Plan:
    """The small plan with a frozen encoder that runs ahead."""
    parts = (TrainedPart.whole(0, is_trained=False),) * 2
    return replace(small_plan("1f1b"), run_ahead=1, trained={"vision": parts})


@pytest.mark.parametrize(
    ("plan", "lost"),
    [
        (small_plan("1f1b"), "language.0B1"),
        (small_plan("1f1b"), "vision.0F1"),
        (small_plan("1f1b"), "vision.0>language.0B0"),
        (small_plan("1f1b"), "language.0R"),
        (small_plan("1f1b"), "S"),
        (small_plan("zero_bubble"), "language.0W1"),
        (small_plan("zero_bubble"), "vision.0I1"),
        (frozen_ahead(), "vision.0>language.0F1"),
        (frozen_ahead(), "vision.0F1+1"),
    ],
)
def test_what_no_rank_has_is_missed(plan: Plan, lost: str) -> None:
    assert check_complete(plan, plan.schedule, training=True) is None
    fault = check_complete(plan, plan.schedule.keep(lambda action: action != parse_action(lost)), training=True)
    assert fault is not None
    expected = lost.replace("I", "B")
    assert f"has {expected} on no rank" in fault.sentence
