"""Process groups: the only file that starts torch.distributed, makes groups, or knows of a default group.

All ranks create all groups in the plan's order. Everything else gets the groups it needs as arguments.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.distributed_c10d import Store

from counterpoint.check.blame import CONTROL, STORAGE
from counterpoint.errors import RunError
from counterpoint.execute.attempt import own_store
from counterpoint.plan.communicators import Communicator, collective_name
from counterpoint.plan.layout import Layout

Key = tuple[tuple[int, ...], int]
"""Ranks, and the number of earlier communicators of the same plan that have the same ranks but a group of their own."""


@dataclass(frozen=True, slots=True)
class World:
    """This process among all processes; `store` is shared by all of them and outlives a failing one."""

    rank: int
    device: torch.device
    store: Store


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
    return World(rank, device, store)


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


@dataclass(slots=True)
class GroupCache:
    """Groups made so far by rank list, for processes that run one plan after another."""

    groups: dict[Key, dist.ProcessGroup | None] = field(default_factory=dict)
    controls: dict[Key, dist.ProcessGroup | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Groups made, the same number on every rank."""
        return len(self.groups) + len(self.controls)

    def destroy(self) -> None:
        """Destroy all groups, in the order in which they were made; all ranks call it together."""
        for group in (*self.groups.values(), *self.controls.values()):
            if group is not None:
                dist.destroy_process_group(group)
        self.groups.clear()
        self.controls.clear()


@dataclass(frozen=True, slots=True)
class Groups:
    """The groups of one plan on one rank, by communicator name.

    `control` and `storage` are gloo groups of all active ranks, for objects and for checkpoints; None on idle ranks.
    """

    world: World
    named: dict[str, dist.ProcessGroup]
    control: dist.ProcessGroup | None
    storage: dist.ProcessGroup | None

    def calls(self, names: Sequence[str]) -> dict[str, int]:
        """Number of operations that this rank has begun on each of these communicators, `control` and `storage`."""
        groups = {name: self.named[name] for name in names if name in self.named}
        device = self.world.device
        counts = {name: _operations(group, device) for name, group in groups.items()}
        for name, group in ((CONTROL, self.control), (STORAGE, self.storage)):
            if group is not None:
                counts[name] = _operations(group, torch.device("cpu"))
        return counts

    def collective(self, ranks: tuple[int, ...]) -> dist.ProcessGroup:
        """The group for collectives over `ranks`."""
        return self.named[collective_name(ranks)]

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
) -> Groups:
    """Create the communicators of a plan in its order; a collective call on all processes of the world."""
    cache = GroupCache() if cache is None else cache
    named: dict[str, dist.ProcessGroup] = {}
    transfers: Counter[tuple[int, ...]] = Counter()
    for communicator in communicators:
        ranks = communicator.ranks
        transfers[ranks] += communicator.is_transfer
        key = (ranks, transfers[ranks] if communicator.is_transfer else 0)
        if key not in cache.groups:
            cache.groups[key] = _new_group(ranks, world, None)
        group = cache.groups[key]
        if group is not None:
            named[communicator.name] = group
    for use in (0, 1):
        if (active, use) not in cache.controls:
            cache.controls[active, use] = _new_group(active, world, _gloo())
    return Groups(world, named, cache.controls[active, 0], cache.controls[active, 1])


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
    if backend is None and world.device.type == "cuda":
        # The communicator starts here and not inside a step; all ranks come to their groups in one order.
        dist.all_reduce(torch.zeros(1, device=world.device), group=group)
    return group
