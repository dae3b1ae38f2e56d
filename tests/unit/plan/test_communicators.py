"""The communicators of a plan are those that its events use, each with all that use it."""

from hypothesis import given

from counterpoint.check.events import Collective, Exchange, expand
from counterpoint.plan.plan import Plan
from tests.unit.plan.strategies import plans


@given(plans())
def test_every_post_has_a_communicator_that_holds_its_members(plan: Plan) -> None:
    named = {communicator.name: communicator for communicator in plan.communicators}
    assert len(named) == len(plan.communicators)
    for rank, stream in expand(plan, plan.schedule.programs).items():
        for post in stream:
            if isinstance(post, Exchange | Collective) and not (isinstance(post, Exchange) and not post.peers):
                found = named[post.communicator]
                assert found.is_transfer is isinstance(post, Exchange)
                members = post.ranks if isinstance(post, Collective) else (rank, *post.peers)
                assert set(members) <= set(found.ranks)


@given(plans())
def test_each_direction_of_a_link_has_communicators_of_its_own(plan: Plan) -> None:
    used: dict[str, set[tuple[bool, str, str]]] = {}
    for stream in expand(plan, plan.schedule.programs).values():
        for post in stream:
            if isinstance(post, Exchange):
                link = post.action.link
                column = link.source.module if link.is_hop else str(link)
                used.setdefault(post.communicator, set()).add((link.is_hop, column, post.action.direction))
    assert all(len(users) == 1 for users in used.values())


@given(plans())
def test_the_active_world_comes_first(plan: Plan) -> None:
    if len(plan.placement.active) > 1:
        assert plan.communicators[0].ranks == plan.placement.active
    assert all(list(c.ranks) == sorted(set(c.ranks)) for c in plan.communicators)
    assert all(len(c.ranks) > 1 for c in plan.communicators)
