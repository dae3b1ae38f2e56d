"""The model of starting: what is counted is what is made, and groups of one order wait for each other."""

import pytest
from hypothesis import given

from counterpoint.plan.plan import Plan
from counterpoint.plan.startup import StartUpCosts, _in_order, start_up
from counterpoint.plan.tree import named_branches
from tests.unit.plan.strategies import plans

FREE = StartUpCosts(passing=(0.0, 0.0), device=(1.0, 0.0), host=(1.0, 0.0), hello=0.0, peer=0.0)


@given(plans())
def test_groups_are_counted_as_they_are_made(plan: Plan) -> None:
    found, active = start_up(plan, fan_out=3), plan.placement.active
    trees = [branch.ranks for use in ("control", "storage") for branch in named_branches(use, active, 3).values()]
    of_rank = [1 + sum(rank in ranks for ranks in [*(c.ranks for c in plan.communicators), *trees]) for rank in active]
    assert (found.communicators, found.host_groups) == (len(plan.communicators), len(trees))
    assert found.most_joined == max(of_rank)
    assert found.seconds >= max(found.communicators_seconds, found.hosts_seconds) >= 0.0


@given(plans())
def test_a_start_takes_as_long_as_the_busiest_rank_and_as_all_groups_at_most(plan: Plan) -> None:
    found = start_up(plan, FREE)
    joins = [sum(rank in c.ranks for c in plan.communicators) for rank in plan.placement.active]
    assert max(joins) <= found.communicators_seconds <= len(plan.communicators)


@pytest.mark.parametrize(("groups", "seconds"), [
    ([(0, 1), (2, 3)], 1.0),
    ([(0, 1), (2, 3), (0, 2)], 2.0),
    ([(0, 1), (1, 2), (2, 3)], 3.0),
    # The same groups in another order.
    ([(0, 1), (2, 3), (1, 2)], 2.0),
])  # fmt: skip
def test_the_order_decides_what_waits(groups: list[tuple[int, ...]], seconds: float) -> None:
    assert _in_order(groups, (0.0, 0.0), (1.0, 0.0)) == seconds
    passing = 0.25 * len(groups)
    assert _in_order(groups, (0.25, 0.0), (1.0, 0.0)) == seconds + passing
