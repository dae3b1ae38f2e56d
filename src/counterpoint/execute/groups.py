"""Process groups: the only file that starts torch.distributed, makes groups, or knows of a default group.

All ranks create all groups in the plan's order. Everything else gets the groups it needs as arguments.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import Store

from counterpoint.check.blame import CONTROL, STORAGE
from counterpoint.errors import RunError
from counterpoint.execute.attempt import own_store
from counterpoint.execute.tree import Tree
from counterpoint.plan.communicators import Communicator, collective_name
from counterpoint.plan.layout import Layout
from counterpoint.plan.tree import FAN_OUT, Branch, named_branches

Key = tuple[tuple[int, ...], int]
"""Ranks, and the number of earlier communicators of the same plan that have the same ranks but a group of their own."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among all processes; `store` is shared by all of them and outlives a failing one.

    `host_backend` is the backend of groups in which hosts tell each other objects. Parameters get memory on `memory`,
    which is `meta` for a world that only shows what it would need, else the same as `device`.
    """

    rank: int
    device: torch.device
    store: Store
    host_backend: str
    memory: torch.device


def join_world(device_type: str, timeout_seconds: float, startup_seconds: float) -> World:
    """Join the processes that the launcher started; reads torchrun's environment variables.

    `timeout_seconds` bounds collectives as a last resort, after the watchdog; raises RunError if not all ranks are
    there after `startup_seconds`.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    timeout = timedelta(seconds=timeout_seconds)
    store = own_store(_shared_store(rank, size, startup_seconds), rank, size, startup_seconds)
    if device_type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
        # Without `device_id`, which would make every new group a split of the world that all ranks must join.
        dist.init_process_group("nccl", timeout=timeout, store=store, rank=rank, world_size=size)
    else:
        device = torch.device("cpu")
        dist.init_process_group(_gloo(), timeout=timeout, store=store, rank=rank, world_size=size)
    return World(rank, device, store, _gloo(), device)


def _shared_store(rank: int, size: int, seconds: float) -> Store:
    """The store that the elastic agent holds, or else rank 0."""
    is_master = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    host, port, timeout = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timedelta(seconds=seconds)
    try:
        # `own_store` says which ranks are missing.
        store: Store = dist.TCPStore(  # type: ignore[attr-defined]  # documented, but not exported
            host, port, size, is_master, timeout, wait_for_workers=False, multi_tenant=True
        )
    except dist.DistError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunError(
            f"rank {rank} found nobody at {host}:{port} within {seconds:g} seconds ({reason}), expected rank 0 or its "
            "launcher there; what rank 0 wrote says why"
        ) from None
    return store


def all_ranks() -> dist.ProcessGroup:
    """The group of all processes of the world that this one has joined."""
    group = dist.group.WORLD
    assert group is not None, "the world has been joined"
    return group


def leave_world(world: World) -> None:
    """Take everything down; all ranks call it once their work is done."""
    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)
    dist.destroy_process_group()


_DRY = "fake"
"""Torch's backend for tests of large worlds: every operation is complete at once."""


@contextmanager
def dry_world(rank: int, size: int) -> Iterator[World]:
    """This process as one rank of a world that is not there: it may make groups, which tell nobody anything, and build
    its part of models, which get no memory."""
    # The import registers the backend, which nothing else needs.
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group(_DRY, store=FakeStore(), rank=rank, world_size=size)
    try:
        yield World(rank, torch.device("cpu"), HashStore(), _DRY, torch.device("meta"))
    finally:
        dist.destroy_process_group()


@dataclass(slots=True)
class GroupCache:
    """Groups made so far by rank list, for processes that run one plan after another.

    `own` is the group of this process alone, the only one that other processes do not make.
    """

    groups: dict[Key, dist.ProcessGroup | None] = field(default_factory=dict)
    controls: dict[Key, dist.ProcessGroup | None] = field(default_factory=dict)
    own: dist.ProcessGroup | None = None

    @property
    def size(self) -> int:
        """Groups made together with others, the same number on every rank."""
        return len(self.groups) + len(self.controls)

    def destroy(self) -> None:
        """Destroy all groups, in the order in which they were made; all ranks call it together."""
        for group in (*self.groups.values(), *self.controls.values(), self.own):
            if group is not None:
                dist.destroy_process_group(group)
        self.groups.clear()
        self.controls.clear()
        self.own = None


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one plan on one rank, by communicator name.

    `control` and `storage` are trees over all active ranks, for objects and for checkpoints; None on idle ranks.
    `own` is the group of this rank alone. `transfers` are the names of communicators that carry transfers, `host_ranks`
    the ranks of each group of the two trees, whether or not this rank is in it; `created` counts all groups of the
    world but those of single ranks.
    """

    world: World
    named: dict[str, dist.ProcessGroup]
    control: Tree | None
    storage: Tree | None
    own: dist.ProcessGroup | None
    transfers: tuple[str, ...]
    host_ranks: dict[str, tuple[int, ...]]
    created: int

    @property
    def joined(self) -> int:
        """Number of groups that this rank is in, its own included."""
        trees = [tree for tree in (self.control, self.storage) if tree is not None]
        return len(self.named) + sum(len(tree.groups) for tree in trees) + (self.own is not None)

    def calls(self) -> dict[str, int]:
        """Number of operations that this rank has begun on each of its communicators of collectives, and of the groups
        of `control` and `storage`."""
        transfers = frozenset(self.transfers)
        device = self.world.device
        counts = {name: _operations(group, device) for name, group in self.named.items() if name not in transfers}
        for tree in (self.control, self.storage):
            if tree is not None:
                host = torch.device("cpu")
                counts |= {name: _operations(group, host) for name, (_branch, group) in tree.groups.items()}
        return counts

    def collective(self, ranks: tuple[int, ...]) -> dist.ProcessGroup:
        """The group for collectives over `ranks`."""
        if len(ranks) > 1:
            return self.named[collective_name(ranks)]
        assert ranks == (self.world.rank,), "the only rank alone that this one knows is itself"
        assert self.own is not None, "only active ranks communicate"
        return self.own

    def transfer(self, name: str) -> dist.ProcessGroup:
        """The group of a communicator of this rank's transfers: its own one where no row leaves the rank."""
        assert self.own is not None, "only active ranks transfer"
        return self.named.get(name, self.own)

    def data_mesh(self, layout: Layout) -> DeviceMesh:
        """FSDP's mesh of this rank for a module: (dp_shard,) or (dp_replicate, dp_shard)."""
        rank, device_type = self.world.rank, self.world.device.type
        shard = layout.group("dp_shard", rank)
        if layout.dp_replicate == 1:
            return DeviceMesh.from_group(self.collective(shard), device_type, mesh_dim_names=("dp_shard",))
        replicate = layout.group("dp_replicate", rank)
        columns = [layout.group("dp_replicate", r) for r in shard]
        mesh = torch.tensor(columns, dtype=torch.int).T
        groups = [self.collective(replicate), self.collective(shard)]
        return DeviceMesh.from_group(groups, device_type, mesh=mesh, mesh_dim_names=("dp_replicate", "dp_shard"))

    def expert_mesh(self, layout: Layout) -> DeviceMesh:
        """FSDP's mesh of this rank for the experts of a module: (edp,)."""
        group = self.collective(layout.group("edp", self.world.rank))
        return DeviceMesh.from_group(group, self.world.device.type, mesh_dim_names=("edp",))


def _operations(group: dist.ProcessGroup, device: torch.device) -> int:
    backend: Any = group._get_backend(device)
    count: int = backend._get_sequence_number_for_group()
    return count


def make_groups(
    world: World,
    communicators: Iterable[Communicator],
    active: tuple[int, ...],
    cache: GroupCache | None = None,
    fan_out: int = FAN_OUT,
) -> Groups:
    """Create the communicators of a plan in its order, then the trees over its `active` ranks, of groups of at most
    `fan_out`; a collective call on all processes of the world."""
    cache = GroupCache() if cache is None else cache
    wanted = tuple(communicators)
    named: dict[str, dist.ProcessGroup] = {}
    transfers: Counter[tuple[int, ...]] = Counter()
    for communicator in wanted:
        ranks = communicator.ranks
        transfers[ranks] += communicator.is_transfer
        key = (ranks, transfers[ranks] if communicator.is_transfer else 0)
        if key not in cache.groups:
            cache.groups[key] = _new_group(ranks, world, None)
        group = cache.groups[key]
        if group is not None:
            named[communicator.name] = group
    if world.rank in active and cache.own is None:
        cache.own = _own_group(world)
    trees = {use: named_branches(use, active, fan_out) for use in (CONTROL, STORAGE)}
    control, storage = (make_tree(world, found, active, cache, number) for number, found in enumerate(trees.values()))
    host_ranks = {name: branch.ranks for found in trees.values() for name, branch in found.items()}
    return Groups(
        world=world,
        named=named,
        control=control,
        storage=storage,
        own=cache.own if world.rank in active else None,
        transfers=tuple(each.name for each in wanted if each.is_transfer and each.name in named),
        host_ranks=host_ranks,
        created=len(wanted) + len(host_ranks),
    )


def make_tree(
    world: World, found: Mapping[str, Branch], members: tuple[int, ...], cache: GroupCache, number: int = 0
) -> Tree | None:
    """Create the groups of a tree, lowest level first; None on ranks that are no members.

    A collective call on all processes of the world. Trees of one cache that are used at once have other numbers.
    """
    joined = {}
    for name, branch in found.items():
        if (branch.ranks, number) not in cache.controls:
            cache.controls[branch.ranks, number] = _new_group(branch.ranks, world, world.host_backend)
        group = cache.controls[branch.ranks, number]
        if group is not None:
            joined[name] = (branch, group)
    if world.rank not in members:
        return None
    top = max((branch.level for branch in found.values()), default=0)
    return Tree(members.index(world.rank), len(members), joined, top)


def tree_of_all(world: World) -> Tree:
    """A tree over all processes of the world, for work without a plan; a collective call on all of them."""
    members = tuple(range(dist.get_world_size(all_ranks())))
    tree = make_tree(world, named_branches(CONTROL, members), members, GroupCache())
    assert tree is not None, "every process is a member"
    return tree


@cache
def _gloo() -> str:
    """The name of a gloo backend whose groups share one connection thread of this process.

    Such a thread wakes a hundred times a second, and torch starts one for each group: a hundred groups on eight idle
    processes cost half a core, and took twice as long to make (torch 2.13).
    """
    device = dist.ProcessGroupGloo.create_default_device()

    def make(place: Any, _options: object) -> dist.ProcessGroupGloo:
        options = dist.ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [device]
        options._timeout = place.timeout
        options.global_ranks_in_group = place.global_ranks_in_group
        options.group_name = place.group_id
        return dist.ProcessGroupGloo(place.store, place.group_rank, place.group_size, options)

    name = "counterpoint_gloo"
    dist.Backend.register_backend(name, make, extended_api=True, devices=["cpu"])
    return name


def _new_group(ranks: tuple[int, ...], world: World, backend: str | None) -> dist.ProcessGroup | None:
    group: dist.ProcessGroup = dist.new_group(list(ranks), backend=backend)
    if world.rank not in ranks:
        return None
    if backend is None:
        _start(group, world)
    return group


def _own_group(world: World) -> dist.ProcessGroup:
    """The group of this process alone, of which no other process need know: with a single member its name, which
    torch derives from its ranks and from the number of groups that a process has, need not be the same anywhere."""
    group: dist.ProcessGroup = dist.new_group([world.rank], use_local_synchronization=True)
    _start(group, world)
    return group


def _start(group: dist.ProcessGroup, world: World) -> None:
    """Start a communicator on GPUs here and not inside a step; all ranks come to their groups in one order."""
    if world.device.type == "cuda":
        dist.all_reduce(torch.zeros(1, device=world.device), group=group)
