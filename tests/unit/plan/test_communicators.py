"""The communicators of a plan are those that its events use, each with all that use it."""

from hypothesis import given

from counterpoint.check.events import Collective, Exchange, expand
from counterpoint.plan.action import Direction
from counterpoint.plan.plan import Plan
from tests.unit.plan.strategies import plans


@given(plans())
def test_every_post_has_a_communicator_that_holds_its_members(plan: Plan) -> None:
    named = {communicator.name: communicator for communicator in plan.communicators}
    assert len(named) == len(plan.communicators)
    for rank, stream in expand(plan, plan.schedule.programs).items():
        transfers = set()
        for post in stream:
            if isinstance(post, Exchange | Collective):
                members = post.ranks if isinstance(post, Collective) else (rank, *post.peers)
                transfers |= {post.communicator} if isinstance(post, Exchange) else set()
                # Rows that stay on a rank need no communicator, though they have their place in the order.
                if post.communicator in named or len(members) > 1:
                    found = named[post.communicator]
                    assert found.is_transfer is isinstance(post, Exchange)
                    assert set(members) <= set(found.ranks)
        assert transfers <= set(plan.transfers_of(rank))


@given(plans())
def test_a_rank_alone_needs_no_communicator(plan: Plan) -> None:
    assert all(len(communicator.ranks) > 1 for communicator in plan.communicators)


@given(plans())
def test_the_transfers_of_a_rank_have_communicators_unless_it_is_alone(plan: Plan) -> None:
    named = {each.name: each.ranks for each in plan.communicators if each.is_transfer}
    for rank in plan.placement.active:
        names = plan.transfers_of(rank)
        assert all(rank in named[name] for name in names if name in named)
        peers = {
            end
            for link in plan.stages.links
            for way in Direction
            for pair in plan.pairs(link, way)
            if rank in pair
            for end in pair
        }
        assert peers <= {rank} or set(names) & named.keys()


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
