"""A dry run of one rank: it makes its groups and builds its part of all models, in one process and without memory.

What is counted is counted on the very objects that train: only that no other rank is there, and no tensor has values.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from counterpoint.config.schema import Config
from counterpoint.errors import InputError
from counterpoint.execute.groups import Groups, dry_world, make_groups
from counterpoint.plan.action import Direction
from counterpoint.plan.plan import Plan
from counterpoint.setup.plan import Models
from counterpoint.setup.rank import settings_of
from counterpoint.train.optimizer import ModuleOptimizer, build_optimizers
from counterpoint.train.parameters import LocalBuffer, LocalParameter
from counterpoint.train.replica import Replica, build_replica


@dataclass(frozen=True, slots=True)
class StageBytes:
    """What a rank keeps of a stage between steps, in bytes, and the number of its tensors of parameters.

    `copies` are weights in the computing dtype beside those that are trained, `gradients` those of a step before its
    update, `optimizer` the moments.
    """

    stage: str
    tensors: int
    elements: int
    parameters: int
    copies: int
    buffers: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.parameters + self.copies + self.buffers + self.gradients + self.optimizer


@dataclass(frozen=True, slots=True)
class JoinedGroup:
    """A group that the rank is in: its name, its number of ranks, and whether it carries collectives, transfers, what
    hosts tell each other, or only the rank itself."""

    name: str
    ranks: int
    carries: str


@dataclass(frozen=True, slots=True)
class LinkPeers:
    """How many ranks the rank can send to, and receive from, over a link in one direction."""

    link: str
    direction: str
    receivers: int
    senders: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """What one rank of a world makes and keeps; `actions` counts those of its program by kind, and `program` is all
    of it."""

    rank: int
    world_size: int
    stages: tuple[StageBytes, ...]
    created: int
    groups: tuple[JoinedGroup, ...]
    peers: tuple[LinkPeers, ...]
    actions: dict[str, int]
    program: tuple[str, ...]

    @property
    def total(self) -> int:
        """Bytes of all stages."""
        return sum(stage.total for stage in self.stages)


def dry_run(config: Config, plan: Plan, models: Models, rank: int) -> DryRun:
    """Build one rank of a plan; raises InputError for a rank that has no work, PlacementError as training would."""
    if rank not in plan.placement.active:
        last = plan.placement.world_size - 1
        what = "which world.idle lists" if 0 <= rank <= last else f"in a world of ranks 0 to {last}"
        raise InputError(f"--rank: got {rank}, {what}, expected a rank that has work; choose another")
    # What is compiled is the same memory, and compilation needs the device.
    settings = replace(settings_of(config), is_compiled=False)
    with dry_world(rank, plan.placement.world_size) as world:
        groups = make_groups(world, plan.communicators, plan.placement.active)
        replicas = [build_replica(settings, plan, models[node.module], node, groups) for node in plan.nodes_of(rank)]
        optimizers = build_optimizers(settings, plan, groups, replicas)
        program = plan.schedule.programs[rank]
        return DryRun(
            rank=rank,
            world_size=plan.placement.world_size,
            stages=tuple(_stage_bytes(plan, replicas, optimizers)),
            created=groups.created,
            groups=_joined(groups),
            peers=_peers(plan, rank),
            actions=dict(Counter(type(action).__name__.lower() for action in program)),
            program=tuple(map(str, program)),
        )


def _stage_bytes(
    plan: Plan, replicas: Iterable[Replica], optimizers: dict[str, ModuleOptimizer]
) -> Iterator[StageBytes]:
    moments: Counter[int] = Counter()
    for optimizer in optimizers.values():
        for parameter, _name, moment in optimizer.moments():
            moments[id(parameter)] += moment.nbytes
    for replica in replicas:
        held, node = replica.parameters, replica.stage.node
        is_sum = plan.stages.count(node.module, plan.microbatches) > 1
        yield StageBytes(
            stage=str(node),
            tensors=len(held),
            elements=sum(one.value.numel() for one in held),
            parameters=_bytes(held),
            copies=sum(one.copy.values.nbytes for one in held if one.copy is not None),
            buffers=_bytes(replica.buffers),
            gradients=sum(_gradient_bytes(one, is_sum) for one in replica.trained),
            optimizer=sum(moments[id(one)] for one in held),
        )


def _bytes(held: Iterable[LocalParameter | LocalBuffer]) -> int:
    return sum(one.value.nbytes for one in held)


def _gradient_bytes(parameter: LocalParameter, is_sum: bool) -> int:
    """A reduced gradient has its parameter's dtype; one that is not reduced, since no other rank has it, its own."""
    dtype = parameter.value.dtype if parameter.copy is None else parameter.copy.gradient_dtype(is_sum=is_sum)
    return parameter.value.numel() * dtype.itemsize


def _joined(groups: Groups) -> tuple[JoinedGroup, ...]:
    carrying = frozenset(groups.transfers)
    found = [
        JoinedGroup(name, group.size(), "transfers" if name in carrying else "collectives")
        for name, group in groups.named.items()
    ]
    for tree in (groups.control, groups.storage):
        assert tree is not None, "the rank has work"
        found += [JoinedGroup(name, group.size(), "objects") for name, (_branch, group) in tree.groups.items()]
    return (*found, JoinedGroup("own", 1, "the rank alone"))


def _peers(plan: Plan, rank: int) -> tuple[LinkPeers, ...]:
    found = []
    for link in plan.stages.links:
        for direction in Direction:
            receivers, senders = plan.peers(link, direction, rank)
            if receivers or senders:
                found.append(LinkPeers(str(link), direction.name.lower(), len(receivers), len(senders)))
    return tuple(found)
