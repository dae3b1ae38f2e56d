"""Process groups: every rank makes the same ones in one order, and each mesh is that of its layout."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.errors import RunError
from counterpoint.execute.groups import GroupCache, Groups, World, join_world, leave_world, make_groups
from counterpoint.plan.communicators import Communicator, collective_name
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from tests.unit.execute.held import fake_world, join_as
from tests.unit.execute.rank import CPU
from tests.unit.plan.strategies import chain_plan, layouts, small_plan

WORLD = 5
"""Four ranks that work and one that is idle."""

PLANS = pytest.mark.parametrize("plan", [small_plan(), chain_plan(4, 2, "interleaved", chunks=2)], ids=["two", "wrap"])


def made_by(plan: Plan, world: World, cache: GroupCache | None = None) -> Groups:
    return make_groups(world, plan.communicators, plan.placement.active, cache)


@PLANS
def test_all_ranks_make_the_same_groups_in_one_order(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = []
    new_group = dist.new_group
    for rank in range(WORLD):
        order: list[list[int]] = []

        def noted(ranks: list[int], order: list[list[int]] = order, **options: Any) -> Any:
            order.append(ranks)
            return new_group(ranks, **options)

        monkeypatch.setattr(dist, "new_group", noted)
        with fake_world(rank, WORLD) as world:
            made = made_by(plan, world)
            of_rank = {c.name: c.ranks for c in plan.communicators if rank in c.ranks}
            assert {n: tuple(dist.get_process_group_ranks(g)) for n, g in made.named.items()} == of_rank
            for tree in (made.control, made.storage, made.own):
                assert (tree is not None) is (rank in plan.placement.active)
            if made.control is not None and made.storage is not None:
                (control,), (storage,) = made.control.groups.values(), made.storage.groups.values()
                assert control[1] is not storage[1]
                assert tuple(dist.get_process_group_ranks(control[1])) == plan.placement.active
            assert made.created == len(plan.communicators) + 2
            # Its own, of which no other rank need know, and which it makes wherever it stands.
            own = [[rank]] if rank in plan.placement.active else []
            assert [ranks for ranks in order if len(ranks) == 1] == own
            assert made.joined == len(of_rank) + 3 * len(own)
        orders.append([ranks for ranks in order if len(ranks) > 1])
    assert len(orders[0]) == len(plan.communicators) + 2
    assert all(order == orders[0] for order in orders)


@PLANS
def test_plans_share_groups_and_transfers_of_one_plan_do_not(plan: Plan) -> None:
    other, cache = small_plan(tp=1), GroupCache()
    with fake_world(0, WORLD) as world:
        first = made_by(plan, world, cache)
        transfers = [first.named[c.name] for c in plan.communicators if c.is_transfer and c.name in first.named]
        assert len({id(group) for group in transfers}) == len(transfers) >= 2
        size = cache.size
        again, another = made_by(plan, world, cache), made_by(other, world, cache)
        assert again == first
        for ranks in ((0,), (0, 1, 2, 3)):
            assert another.collective(ranks) is first.collective(ranks)
        keys = {(c.ranks, c.is_transfer) for c in plan.communicators}
        new = [c for c in other.communicators if (c.ranks, c.is_transfer) not in keys]
        assert cache.size == size + len(new)
        cache.destroy()
        assert cache.size == 0
        for group in transfers:
            with pytest.raises(KeyError):
                dist.get_process_group_ranks(group)


@settings(max_examples=25)
@given(layouts(max_size=8), st.data())
def test_a_mesh_has_the_lines_of_its_layout(layout: Layout, data: st.DataObject) -> None:
    rank = data.draw(st.sampled_from(layout.ranks))
    with fake_world(rank, max(layout.ranks) + 1) as world:
        lines = {axis: layout.group(axis, rank) for axis in ("dp_replicate", "dp_shard", "edp")}
        wanted = [Communicator(collective_name(ranks), ranks) for ranks in set(lines.values()) if len(ranks) > 1]
        made = make_groups(world, wanted, (rank,))
        mesh, experts = made.data_mesh(layout), made.expert_mesh(layout)
        assert mesh.mesh_dim_names == (("dp_replicate",) if layout.dp_replicate > 1 else ()) + ("dp_shard",)
        for dim in mesh.mesh_dim_names:
            assert tuple(dist.get_process_group_ranks(mesh.get_group(dim))) == lines[dim]
        assert sorted(mesh.mesh.flatten().tolist()) == sorted(
            other for shard in lines["dp_shard"] for other in layout.group("dp_replicate", shard)
        )
        grid = mesh.mesh if mesh.mesh.dim() == 2 else mesh.mesh[None]
        (row,), (column,) = (grid == rank).nonzero(as_tuple=True)
        assert tuple(grid[row].tolist()) == lines["dp_shard"]
        assert tuple(grid[:, column].tolist()) == lines["dp_replicate"]
        assert experts.mesh_dim_names == ("edp",)
        assert tuple(dist.get_process_group_ranks(experts.get_group())) == lines["edp"]


def test_a_rank_alone_has_one_group_for_whatever_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of this process alone, with gloo as ranks on a CPU have it."""
    join_as(monkeypatch, 0, 1, 0)
    plan = chain_plan(1, 1, "gpipe", chunks=2)
    world = join_world("cpu", 60.0, 60.0)
    try:
        assert (world.rank, world.device) == (0, CPU)
        assert plan.communicators == ()
        made = made_by(plan, world)
        assert (made.created, made.joined, made.calls()) == (0, 1, {})
        transfers = plan.transfers_of(0)
        assert len(transfers) > 1
        assert {made.collective((0,)), *map(made.transfer, transfers)} == {made.own}
        value = torch.ones(1)
        dist.all_reduce(value, group=made.own)
        assert value == 1.0
        tree = made.control
        assert tree is not None
        assert (tree.gather("a"), tree.broadcast("b"), tree.scatter(["c"]), tree.merged(1, sum)) == (["a"], "b", "c", 1)
        assert tree.maximum(3, -4) == (3, -4)
    finally:
        leave_world(world)
    assert not dist.is_initialized()


class _Counted:
    """A group that has begun so many operations."""

    def __init__(self, begun: int) -> None:
        self._begun = begun

    def _get_backend(self, _device: torch.device) -> "_Counted":
        return self

    def _get_sequence_number_for_group(self) -> int:
        return self._begun


def test_operations_are_counted_by_communicator() -> None:
    """Of transfers none: whether they are begun follows from the program."""
    named: Any = {"collective[0-3]": _Counted(2), "vision.0>language.0F": _Counted(9)}
    trees: list[Any] = [SimpleNamespace(groups={f"{use}.0[0-1]": (None, _Counted(n))}) for use, n in USES.items()]
    world: Any = SimpleNamespace(device=CPU)
    control, storage = trees
    made = Groups(world, named, control, storage, None, ("vision.0>language.0F",), {}, 4)
    assert made.calls() == {"collective[0-3]": 2, "control.0[0-1]": 3, "storage.0[0-1]": 5}
    assert made.joined == 4


USES = {"control": 3, "storage": 5}


def test_who_finds_nobody_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    join_as(monkeypatch, 1, 2, 1)
    with pytest.raises(RunError, match=r"rank 1 found nobody at 127\.0\.0\.1:1 within 0\.1 seconds"):
        join_world("cpu", 60.0, 0.1)
