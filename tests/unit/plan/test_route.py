"""Routes against a brute-force walk over single rows."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.routes import check_routes
from counterpoint.plan.action import Direction
from counterpoint.plan.batch import DOCUMENT, BatchPlan, ModuleRows
from counterpoint.plan.erase import carries
from counterpoint.plan.graph import Link
from counterpoint.plan.placement import place
from counterpoint.plan.plan import Plan
from tests.asked import asked
from tests.unit.plan.strategies import plan_of, plans, random_packs, uniform_packs

Place = tuple[int, int]
"""A rank and a row of its shard."""


def rows_by_hand(plan: Plan, batch: BatchPlan, link: Link, exchange: int) -> dict[Place, Place]:
    """Where each row goes, one row at a time."""
    source, target = plan.layouts[link.source.module], plan.layouts[link.target.module]
    grain = min(plan.rows[source.module].group, plan.rows[target.module].group)
    left, right = (exchange * grain // plan.rows[layout.module].group for layout in (source, target))

    def place(module: str, stage: int, lane: int, padded: int, row: int) -> Place:
        layout = plan.layouts[module]
        size = padded // layout.lane_size
        return layout.lane_ranks(stage, lane)[row // size], row % size

    result = {}
    for lane, share in enumerate(batch.shares[source.module][left]):
        if link.is_hop:
            for row in range(share.rows_in):
                start = place(source.module, link.source.stage, lane, share.rows_in, row)
                result[start] = place(target.module, link.target.stage, lane, share.rows_in, row)
            continue
        for span in share.spans:
            if batch.homes[span.document] // grain != exchange:
                continue
            for target_lane, target_share in enumerate(batch.shares[target.module][right]):
                for found in target_share.spans:
                    if found.document != span.document or found.item not in (DOCUMENT, span.item):
                        continue
                    inside = batch.item(span).position if found.item == DOCUMENT else 0
                    for offset in range(span.rows_out):
                        row = found.row_in + inside + offset
                        start = place(source.module, link.source.stage, lane, share.rows_out, span.row_out + offset)
                        result[start] = place(target.module, 0, target_lane, target_share.rows_in, row)
    return result


@given(plans(max_world=10, max_microbatches=2), st.integers(0, 2**16))
def test_routes_move_every_row_as_by_hand(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed, max_packs=5))
    for link in plan.stages.links:
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            route = plan.route(batch, link, exchange)
            moved = [
                ((copy.source_rank, copy.source_row + i), (copy.target_rank, copy.target_row + i))
                for copy in route.copies
                for i in range(copy.rows)
            ]
            assert len(dict(moved)) == len(moved) == route.rows
            assert dict(moved) == rows_by_hand(plan, batch, link, exchange)
            between = Counter[tuple[int, int]]()
            for copy in route.copies:
                between[copy.source_rank, copy.target_rank] += copy.rows * (copy.source_rank != copy.target_rank)
            assert plan.rows_between(batch, link, exchange) == dict(+between)


@given(plans(), st.integers(0, 2**16))
def test_routes_pass_their_check(plan: Plan, seed: int) -> None:
    assert check_routes(plan, plan.batch(0, random_packs(plan, seed))) is None


@given(plans(), st.integers(0, 2**16))
def test_a_batch_uses_only_pairs_that_the_plan_connects(plan: Plan, seed: int) -> None:
    batch = plan.batch(0, random_packs(plan, seed))
    for link in plan.stages.links:
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            route = plan.route(batch, link, exchange)
            forward = {(copy.source_rank, copy.target_rank) for copy in route.copies}
            backward = {(target, source) for source, target in forward}
            for way, used in ((Direction.FORWARD, forward), (Direction.BACKWARD, backward)):
                assert {pair for pair in used if pair[0] != pair[1]} <= set(plan.pairs(link, way))


@given(plans(max_world=10), st.integers(0, 2**16))
def test_the_route_of_a_rank_is_its_part_of_the_whole(plan: Plan, seed: int) -> None:
    """And an exchange carries something just where it has copies on any rank."""
    batch = plan.batch(0, random_packs(plan, seed))
    for link in plan.stages.links:
        for exchange in range(plan.stages.exchanges(link, plan.microbatches)):
            whole = plan.route(batch, link, exchange)
            assert bool(whole.copies) == carries(plan.stages, batch, link, exchange)
            for rank in plan.stages.world:
                own = plan.route(batch, link, exchange, rank)
                assert (own.outgoing(rank), own.incoming(rank)) == (whole.outgoing(rank), whole.incoming(rank))
                assert all(rank in (copy.source_rank, copy.target_rank) for copy in own.copies)


def test_a_rank_lays_out_only_the_lanes_that_it_meets() -> None:
    """Where images stay with their documents, a colocated rank looks at its own lanes alone."""
    ranks = tuple(range(8))
    placement = place(8, (asked("vision", ranks=ranks, dp_shard=8), asked("language", ranks=ranks, dp_shard=8)))
    plan = plan_of(placement, {layout.module: ModuleRows(layout) for layout in placement.layouts}, "1f1b", 1)
    batch = plan.batch(0, uniform_packs(8))
    (link,) = plan.stages.links
    assert plan.route(batch, link, 0, rank=3).copies
    assert {module: set(lanes._laid) for module, (lanes,) in batch.shares.items()} == {"vision": {3}, "language": {3}}
