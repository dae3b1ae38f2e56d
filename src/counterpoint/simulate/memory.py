"""Bytes per rank: parameters, gradients, optimizer state, activations in flight, from a plan and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from operator import mul

from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleMemory:
    """Sizes of one module: parameters of every part, those of its experts, and bytes per parameter of what is kept.

    Only the plan's trained parameters have gradients and optimizer state.

    `activation_bytes` is what one part keeps for backward of one row on one rank, and `passing_bytes` what layers have
    on a GPU of what waits in the host's memory: that of the layer at work and of the one whose copies travel. The
    optimizer keeps `part_moments` values of `moment_bytes` for each trained parameter of a part, two by default.
    """

    part_parameters: tuple[int, ...]
    activation_bytes: int
    passing_bytes: int = 0
    part_expert_parameters: tuple[int, ...] = ()
    parameter_bytes: int = 4
    gradient_bytes: int = 4
    gathered_bytes: int = 4
    part_moments: tuple[float, ...] = ()
    moment_bytes: int = 4


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Bytes on one rank; `gathered_bytes` are full parameters between FSDP's all-gather and its release."""

    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    gathered_bytes: int
    activation_bytes: int

    @property
    def total_bytes(self) -> int:
        """Everything at once: an upper bound, since the peaks need not coincide."""
        kept = self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes
        return kept + self.gathered_bytes + self.activation_bytes

    def __add__(self, other: "RankMemory") -> "RankMemory":
        return RankMemory(
            self.parameter_bytes + other.parameter_bytes,
            self.gradient_bytes + other.gradient_bytes,
            self.optimizer_bytes + other.optimizer_bytes,
            self.gathered_bytes + other.gathered_bytes,
            self.activation_bytes + other.activation_bytes,
        )


NOTHING = RankMemory(0, 0, 0, 0, 0)


def memory(
    plan: Plan, modules: Mapping[str, ModuleMemory], rows: Mapping[str, int], in_flight: Mapping[Node, int]
) -> dict[int, RankMemory]:
    """Bytes per active rank; `rows` are input rows of a lane by module, `in_flight` a timeline's peaks."""
    result = dict.fromkeys(plan.placement.active, NOTHING)
    for node, ranks in plan.stages.ranks.items():
        used = _node_memory(plan, node, modules[node.module], rows[node.module], in_flight.get(node, 0))
        for rank in ranks:
            result[rank] = result[rank] + used
    return result


def largest_rows(plan: Plan, batch: BatchPlan) -> dict[str, int]:
    """The most input rows that any lane of a module has in a microbatch."""
    return {
        module: max((share.rows_in for lanes in batch.shares[module] for share in lanes), default=0)
        for module in plan.layouts
    }


def _node_memory(plan: Plan, node: Node, sizes: ModuleMemory, rows: int, in_flight: int) -> RankMemory:
    layout = plan.layouts[node.module]
    start, stop = plan.splits[node.module][node.stage]
    experts = sizes.part_expert_parameters or (0,) * len(sizes.part_parameters)
    pairs = list(zip(sizes.part_parameters, experts, strict=True))[start:stop]
    dense = [-(-(count - expert) // layout.tp) for count, expert in pairs]
    routed = [-(-expert // layout.expert_size) for _count, expert in pairs]
    parts = [a + b for a, b in zip(dense, routed, strict=True)]
    local = sum(parts)
    shard = _sharded(layout, sum(dense), sum(routed))
    shares = _trained_shares(plan, node, [count for count, _expert in pairs])
    moments = (sizes.part_moments or (2.0,) * len(sizes.part_parameters))[start:stop]
    kept = 0.0
    for number in dict.fromkeys(moments):
        alike = [share * (number == own) for share, own in zip(shares, moments, strict=True)]
        kept += number * _sharded(layout, *(ceil(sum(map(mul, kind, alike))) for kind in (dense, routed)))
    # Without resharding every part stays gathered for the step and its gradient is whole until the reduction;
    # with it the gathered parts are the one that runs and the one that is fetched ahead.
    gathered = sum(sorted(parts)[-2:]) if layout.reshard else local
    own_rows, passing = -(-rows // layout.lane_size), sizes.passing_bytes if in_flight else 0
    return RankMemory(
        parameter_bytes=shard * sizes.parameter_bytes,
        gradient_bytes=ceil(sum(map(mul, parts, shares))) * sizes.gradient_bytes,
        optimizer_bytes=ceil(kept) * sizes.moment_bytes,
        gathered_bytes=gathered * sizes.gathered_bytes if shard < local else 0,
        activation_bytes=own_rows * ((stop - start) * sizes.activation_bytes * in_flight + passing),
    )


def _trained_shares(plan: Plan, node: Node, parameters: list[int]) -> list[float]:
    """The share of the parameters of each of a stage's parts that is trained."""
    start, stop = plan.splits[node.module][node.stage]
    if node.module not in plan.trained:
        return [1.0] * (stop - start)
    trained = plan.trained[node.module][start:stop]
    return [part.elements / max(count, 1) for part, count in zip(trained, parameters, strict=True)]


def _sharded(layout: Layout, dense: int, routed: int) -> int:
    """A rank's share of parameters that FSDP shards: dense ones over lanes and cp, experts over edp."""
    return -(-dense // (layout.dp_shard * layout.cp)) + -(-routed // layout.edp)
