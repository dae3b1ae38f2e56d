"""The update of one module on this rank: scale gradients, call the optimizer, free the gradients."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from counterpoint.execute.groups import Groups
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.groups import ParameterGroup, group_number, parameter_groups, patterns_of
from counterpoint.optimizers.kind import OptimizerSection
from counterpoint.optimizers.pieces import Piece
from counterpoint.optimizers.shard import ScalingUpdate, Shard, Spread, Team, Update
from counterpoint.parallelize.blocks import Block
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.train.parameters import LocalParameter
from counterpoint.train.replica import Replica
from counterpoint.train.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class Clipping:
    """The clipping of a step, as scalars on the device: gradients are multiplied by `scale`, float64, None for 1;
    nothing is updated if `is_broken`, bool."""

    scale: torch.Tensor | None
    is_broken: torch.Tensor


@dataclass(frozen=True, slots=True)
class StageRanks:
    """The ranks of a module's stage: `rank` is this rank's number in `group`, which is None if the optimizer does not
    communicate or the rank is alone. Models compute in `compute` on `device`."""

    group: dist.ProcessGroup | None
    rank: int
    compute: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True)
class _Group:
    """A parameter group: its parameters with elements on this rank, and their `Update`."""

    held: tuple[LocalParameter, ...]
    update: Update | None


class ModuleOptimizer:
    """The optimizer of one module's shards on this rank, group by group.

    It works on plain local tensors that share memory with the sharded parameters.
    """

    def __init__(self, section: OptimizerSection, parameters: Iterable[LocalParameter], ranks: StageRanks) -> None:
        self._parameters = tuple(parameters)
        groups = zip(parameter_groups(section), by_group(section, self._parameters), strict=True)
        self._groups = tuple(_group(group, some, ranks) for group, some in groups)

    def step(self, rates: Sequence[float], clipping: Clipping) -> None:
        """Update with scaled gradients, then drop the gradients; never waits for the device.

        `rates` are the learning rates of the groups; the last one is that of parameters outside all groups.
        """
        for group, rate in zip(self._groups, rates, strict=True):
            if group.update is not None:
                _step(group.update, group.held, rate, clipping)
        # Also gradients without elements: each is a view of a whole FSDP group's reduced buffer, and keeps it alive.
        for parameter in self._parameters:
            parameter.parameter.grad = None

    def moments(self) -> Iterator[tuple[LocalParameter, str, torch.Tensor]]:
        """The moments of each shard, by name, sharing memory; zeros before the first step."""
        for group in self._groups:
            kept = () if group.update is None else group.update.moments()
            for parameter, moments in zip(group.held, kept, strict=True):
                for name, moment in moments.items():
                    yield parameter, name, moment

    def set_step(self, step: int) -> None:
        """Continue as after `step` updates."""
        for group in self._groups:
            if group.update is not None:
                group.update.set_step(step)


def build_optimizers(
    settings: EngineSettings, plan: Plan, groups: Groups, replicas: Collection[Replica]
) -> dict[str, ModuleOptimizer]:
    """The optimizers of this rank, by module; modules of which nothing is trained have none."""
    parameters = [parameter for replica in replicas for parameter in replica.trained]
    nodes = frozenset(replica.stage.node for replica in replicas)
    found = {}
    for module in plan.graph.modules:
        held = [parameter for parameter in parameters if parameter.module == module]
        if held:
            ranks = _stage_ranks(settings, plan, groups, frozenset(node for node in nodes if node.module == module))
            found[module] = ModuleOptimizer(settings.optimizers[module], held, ranks)
    return found


def _stage_ranks(settings: EngineSettings, plan: Plan, groups: Groups, nodes: Collection[Node]) -> StageRanks:
    """The ranks of this rank's `nodes` of a module, with a process group if the module's optimizer communicates."""
    rank, module = groups.world.rank, next(iter(nodes)).module
    ranks = plan.stage_ranks(module, rank)
    is_exchanging = any(map(plan.exchanges, nodes)) and len(ranks) > 1
    group = groups.collective(ranks) if is_exchanging else None
    return StageRanks(group, ranks.index(rank), dtype_of(settings.training.precision.compute), groups.world.device)


def _step(update: Update, held: Sequence[LocalParameter], rate: float, clipping: Clipping) -> None:
    # An update that finds the step broken leaves copies as they are, so only what is current stays so.
    copies = [one.copy for one in held if one.copy is not None and one.copy.is_current]
    writes_copies = False
    if isinstance(update, ScalingUpdate):
        update.step_scaled([one.gradient for one in held], clipping.scale, rate, clipping.is_broken)
        writes_copies = update.writes_rounded
    else:
        gradients = [one.gradient.to(one.parameter.dtype) for one in held]
        if clipping.scale is not None and gradients:
            torch._foreach_mul_(gradients, clipping.scale.to(gradients[0].dtype))
        update.step(gradients, rate, clipping.is_broken)
    for copy in copies:
        copy.settle(is_current=writes_copies)


def by_group(section: OptimizerSection, parameters: Iterable[LocalParameter]) -> tuple[tuple[LocalParameter, ...], ...]:
    """The parameters of each group of a module, in their order."""
    patterns = patterns_of(section)
    groups: list[list[LocalParameter]] = [[] for _ in range(len(patterns) + 1)]
    for parameter in parameters:
        groups[group_number(patterns, parameter.block.name)].append(parameter)
    return tuple(map(tuple, groups))


def _group(group: ParameterGroup, parameters: Sequence[LocalParameter], ranks: StageRanks) -> _Group:
    held = tuple(parameter for parameter in parameters if parameter.block.numel)
    kind, section = OPTIMIZERS[group.section.kind], group.section
    exchanged = [p for p in parameters if kind.exchanges(section, p.block.name, p.block.global_shape)]
    if not held and not exchanged:
        return _Group(held, None)
    shards = [_shard(parameter) for parameter in held]
    spreads = {p.block.name: Spread(p.block.global_shape, tuple(map(_piece, p.blocks))) for p in exchanged}
    team = Team(ranks.group, ranks.rank, spreads, ranks.compute, ranks.device)
    return _Group(held, kind.build(section, shards, team))


def _shard(parameter: LocalParameter) -> Shard:
    rounded = None if parameter.copy is None else parameter.copy.values.detach()
    return Shard(parameter.block.name, parameter.block.global_shape, _piece(parameter.block), parameter.value, rounded)


def _piece(block: Block) -> Piece:
    return Piece(block.offset, block.shape)
