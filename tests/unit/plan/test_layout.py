"""Layouts agree with numpy's reshape of the rank list."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.errors import PlacementError
from counterpoint.plan.layout import Coordinate, Layout, format_ranks
from tests.unit.plan.strategies import layouts


def grid(layout: Layout) -> np.ndarray:
    """Ranks as (pp, dp_replicate, dp_shard, cp, tp)."""
    shape = (layout.pp, layout.dp_replicate, layout.dp_shard, layout.cp, layout.tp)
    return np.array(layout.ranks).reshape(shape)


@given(layouts())
def test_coordinates_are_those_of_a_reshaped_rank_list(layout: Layout) -> None:
    ranks = grid(layout).reshape(layout.pp, layout.dp, layout.cp, layout.tp)
    for index, rank in np.ndenumerate(ranks):
        assert layout.coordinate(int(rank)) == Coordinate(*index)
        assert layout.rank_at(*index) == rank


@given(layouts())
def test_groups_are_the_lines_of_a_reshaped_rank_list(layout: Layout) -> None:
    axes = {"pp": (0,), "dp_replicate": (1,), "dp_shard": (2, 3), "cp": (3,), "tp": (4,), "dp": (1, 2)}
    for name, along in axes.items():
        moved = np.moveaxis(grid(layout), along, range(-len(along), 0))
        lines = moved.reshape(-1, int(np.prod(moved.shape[-len(along) :])))
        assert layout.groups(name) == tuple(sorted(tuple(map(int, line)) for line in lines))


@given(layouts())
def test_groups_partition_the_module_and_ascend(layout: Layout) -> None:
    for axis in ("pp", "dp", "dp_replicate", "dp_shard", "cp", "tp"):
        groups = layout.groups(axis)
        assert sorted(rank for group in groups for rank in group) == list(layout.ranks)
        assert all(list(group) == sorted(group) for group in groups)


@given(layouts())
def test_stages_and_lanes_are_slices(layout: Layout) -> None:
    ranks = grid(layout).reshape(layout.pp, layout.dp, layout.lane_size)
    for stage in range(layout.pp):
        assert layout.stage_ranks(stage) == tuple(ranks[stage].ravel())
        for lane in range(layout.dp):
            assert layout.lane_ranks(stage, lane) == tuple(ranks[stage, lane])


@given(layouts(), st.integers(1, 3))
def test_a_stage_lives_where_its_number_falls_among_the_places(layout: Layout, chunks: int) -> None:
    chunked = replace(layout, chunks=chunks)
    for stage in range(chunked.stages):
        assert chunked.stage_ranks(stage) == layout.stage_ranks(stage % layout.pp)
        for lane in range(layout.dp):
            assert chunked.lane_ranks(stage, lane) == layout.lane_ranks(stage % layout.pp, lane)


@given(layouts(), st.data())
def test_expert_view_covers_the_same_ranks(layout: Layout, data: st.DataObject) -> None:
    ep = data.draw(st.sampled_from([d for d in range(1, layout.stage_size + 1) if layout.stage_size % d == 0]))
    expert = Layout(module="m", ranks=layout.ranks, pp=layout.pp, dp_shard=layout.stage_size, ep=ep)
    assert expert.edp * expert.ep * expert.etp == expert.dp * expert.cp * expert.tp


@given(st.sets(st.integers(0, 30), min_size=1))
def test_formatted_ranks_read_back(ranks: set[int]) -> None:
    read: list[int] = []
    for run in format_ranks(tuple(sorted(ranks))).split(","):
        first, _, last = run.partition("-")
        read.extend(range(int(first), int(last or first) + 1))
    assert read == sorted(ranks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranks": (1, 0), "dp_shard": 2}, r"modules.m.layout.ranks: got \[1, 0\] with 0 listed after 1"),
        ({"ranks": (0, 0), "dp_shard": 2}, "with 0 listed twice"),
        ({"ranks": (0, 1, 2), "tp": 2}, r"= 2, expected 3, the number of ranks"),
        ({"ranks": (0,), "tp": 0}, "modules.m.layout.tp: got 0, expected at least 1"),
        ({"ranks": (0, 1), "tp": 2, "ep": 4}, "ep 4 x etp 1 does not divide the 2 ranks"),
    ],
)
def test_wrong_layouts_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlacementError, match=message):
        Layout(module="m", **arguments)


def test_foreign_ranks_and_axes_are_refused() -> None:
    layout = Layout(module="m", ranks=(0, 1), tp=2)
    with pytest.raises(KeyError, match="rank 5 is not in module m"):
        layout.coordinate(5)
    with pytest.raises(KeyError, match="not an axis"):
        layout.group("rows", 0)
    assert str(layout) == "m: tp2 on 0-1"


def test_the_expert_view_is_of_the_same_ranks() -> None:
    layout = Layout(module="m", ranks=tuple(range(10, 26)), pp=2, dp_shard=2, cp=2, tp=2, ep=2, etp=2)
    assert layout.edp == 2
    assert layout.group("ep", 13) == (10, 11, 12, 13)
    assert layout.group("edp", 13) == (13, 17)
    assert layout.group("edp", 25) == (21, 25)
    assert layout.group("lane", 15) == (14, 15, 16, 17)
    assert layout.expert_coordinate(24) == (1, 1, 0)
    assert str(layout) == "m: pp2 x dp2 x cp2 x tp2 x ep2 x etp2 on 10-25"


@given(layouts())
def test_expert_groups_partition_every_stage(layout: Layout) -> None:
    for axis in ("ep", "edp", "lane"):
        members = sorted(rank for group in layout.groups(axis) for rank in group)
        assert members == list(layout.ranks)
    seen = {(layout.coordinate(rank).pp, *layout.expert_coordinate(rank)) for rank in layout.ranks}
    assert len(seen) == len(layout.ranks)
