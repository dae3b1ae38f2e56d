"""Placements cover the world, and every way not to is named with its ranks."""

import pytest
from hypothesis import given

from counterpoint.errors import PlacementError
from counterpoint.plan.placement import Placement, Request, place
from tests.asked import asked
from tests.unit.plan.strategies import placements


def request(module: str, *ranks: int, **degrees: int) -> Request:
    return asked(module, ranks=ranks or None, **degrees)


@given(placements())
def test_every_rank_has_work_or_is_idle(placement: Placement) -> None:
    for rank in range(placement.world_size):
        assert bool(placement.modules_of(rank)) is (rank not in placement.idle)
    assert sorted((*placement.active, *placement.idle)) == list(range(placement.world_size))


@pytest.mark.parametrize(
    ("requests", "kind"),
    [
        ([request("a", 0, 1)], "single"),
        ([request("a", 0), request("b", 1)], "disjoint"),
        ([request("a", 0, 2), request("b", 1, 3)], "disjoint"),
        ([request("a", 0, 1), request("b", 0, 1)], "colocated"),
        ([request("a", 0, 1), request("b", 1, 2)], "mixed"),
        ([request("a", 0, 1), request("b", 0, 1), request("c", 2)], "mixed"),
    ],
)
def test_kinds(requests: list[Request], kind: str) -> None:
    world = 1 + max(rank for _module, layout in requests for rank in layout.ranks or ())
    assert place(world, tuple(requests), partial_overlap=True).kind == kind


def test_ranks_left_out_are_dealt_in_order_and_dp_follows() -> None:
    placement = place(8, (request("a", dp_shard=2), request("b", tp=2), request("c", 0, 1)))
    assert [layout.ranks for layout in placement.layouts] == [(2, 3), (4, 5, 6, 7), (0, 1)]
    assert placement.layout("b").dp_shard == 2


def test_idle_ranks_are_dealt_to_nobody() -> None:
    placement = place(6, (request("a", dp_shard=2), request("b")), idle=(0, 3))
    assert [layout.ranks for layout in placement.layouts] == [(1, 2), (4, 5)]


@pytest.mark.parametrize(
    ("world", "requests", "idle", "message"),
    [
        (2, [request("a", 0, 1, 2)], (), r"modules.a.layout.ranks: got \[2\], expected ranks from 0 to 1"),
        (2, [request("a", 0, 1)], (4,), r"world.idle: got \[4\]"),
        (4, [request("a", 0, 1)], (), r"ranks 2-3 of 4 have no module.*world.idle: \[2, 3\]"),
        (3, [request("a", 0, 1), request("b", 1, 2)], (), r"share ranks \[1\]"),
        (2, [request("a", 1, 0)], (), "0 listed after 1"),
        (2, [request("a", 0, 1)], (1,), r"ranks \[1\] are also listed under world.idle"),
        (3, [request("a", 0, 1, 2, tp=2)], (), r"not a multiple of pp 1 .* tp 2 = 2"),
        (2, [request("a", dp_shard=2), request("b", dp_shard=2)], (), "too few"),
        (2, [request("a", 0, 1), request("b")], (), "too few"),
        (2, [request("a"), request("b")], (), "expected at most one such module"),
    ],
)
def test_wrong_placements_are_refused(world: int, requests: list[Request], idle: tuple[int, ...], message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        place(world, tuple(requests), idle)
