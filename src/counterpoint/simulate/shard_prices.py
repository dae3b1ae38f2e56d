"""What FSDP2 costs: gathers of parameters, sums of gradients, the copies around them, and the host's work for both."""

from collections.abc import Mapping, Sequence
from typing import final

from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import HostWork
from counterpoint.plan.action import Compute, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import PartWork
from counterpoint.simulate.operations import ExchangeKind
from counterpoint.simulate.sharding import (
    Overlapped,
    ShardedGroup,
    one_after_the_other,
    overlapped,
    sharded_groups,
)
from counterpoint.simulate.sizes import BYTES
from counterpoint.simulate.spans import Spans

_INTERLEAVING = 3
"""How much longer the copy before a reduce-scatter takes than its bytes: torch's `chunk_cat` reaches 1.0 to 1.8 of an
H200's 4.2 TB/s (docs/performance.md)."""

_CASTING = 2.6
"""How much longer a sum of tensors of two dtypes takes than its bytes: torch's kernel for it reaches 1.6 of an H200's
4.2 TB/s (28 ms for 4.5e9 gradients, `hybrid_vlm_disjoint8_first_profiled_2xh200.json` in benchmarks/results)."""

Groups = tuple[ShardedGroup, ...]


@final
class ShardPrices:
    """The prices of a plan's groups of sharded parameters on hardware."""

    def __init__(
        self, plan: Plan, hardware: Hardware, works: Mapping[str, tuple[PartWork, ...]], spans: Spans
    ) -> None:  # fmt: skip
        self._plan, self._hardware, self._works, self._spans = plan, hardware, works, spans
        self._value_bytes, self._stored_bytes, self._reduced_bytes = (
            BYTES[dtype] for dtype in (plan.dtype, plan.stored, plan.reduced)
        )
        self._groups = {node: sharded_groups(plan, node) for node in plan.stages.nodes}

    def groups(self, node: Node) -> Groups:
        """The groups of a stage, in the order in which forward needs them."""
        return self._groups[node]

    def groups_of(self, action: Compute) -> Groups:
        """The groups that a pass needs: backward those that gradients reach."""
        groups = self._groups[action.node]
        if action.work is Work.FORWARD:
            return groups
        return () if action.work is Work.WEIGHT else tuple(one for one in groups if self._is_reached(action.node, one))

    def _is_reached(self, node: Node, group: ShardedGroup) -> bool:
        works = self._works[node.module][slice(*self._plan.splits[node.module][node.stage])]
        return bool(group.trained) or any(works[place].inputs or works[place].has_pairs_back for place in group.parts)

    def around(
        self, rank: int, action: Compute, groups: Groups, seconds: Sequence[float], *, gathers: bool, reduces: bool
    ) -> Overlapped:  # fmt: skip
        """A pass whose groups compute for so many seconds each, with gathers before and sums after them."""
        node = action.node
        computes = list(seconds)
        gather = [self._gather(rank, node, group) if gathers else 0.0 for group in groups]
        sums = [self.sum(rank, node, group) if reduces else 0.0 for group in groups]
        if action.work is not Work.FORWARD:
            computes, gather, sums = computes[::-1], gather[::-1], sums[::-1]
        combine = one_after_the_other if self._hardware.device == "cpu" else overlapped
        return combine(computes, gather, sums)

    def _gather(self, rank: int, node: Node, group: ShardedGroup) -> float:
        """The gather; one rank alone has it all."""
        ranks, nodes = self._spans.of(node, rank, group.axis)
        return self._hardware.collective("all_gather", group.parameters * self._value_bytes, ranks, nodes)

    def sum(self, rank: int, node: Node, group: ShardedGroup) -> float:
        """Seconds of the sum of gradients over the shards, and that over replicas."""
        if not group.trained:
            return 0.0
        ranks, nodes = self._spans.of(node, rank, group.axis)
        size = group.trained * self._reduced_bytes
        # Over gloo torch's own reduce-scatter costs as much as an all-reduce of the same tensor.
        kind: ExchangeKind = "all_reduce" if self._hardware.device == "cpu" else "reduce_scatter"
        seconds = self._hardware.collective(kind, size, ranks, nodes)
        if group.axis == "dp_shard":
            replicas, spanned = self._spans.of(node, rank, "dp_replicate")
            seconds += self._hardware.collective("all_reduce", size // ranks, replicas, spanned)
        return seconds

    def copies(self, rank: int, action: Compute, groups: Groups, *, gathers: bool, reduces: bool) -> float:
        """Seconds of what FSDP2 copies: a shard is cast before a gather, and what is gathered copied to its place;
        gradients are cast and interleaved before a sum, or added to those of earlier microbatches.

        It shares the memory with what computes, so none of it is hidden.
        """
        cast, total = self._stored_bytes + self._value_bytes, 0.0
        for group in groups:
            ranks, _nodes = self._spans.of(action.node, rank, group.axis)
            if gathers:
                total += self._hardware.elementwise(2 * group.parameters // ranks * cast)
                total += self._hardware.elementwise(2 * group.parameters * self._value_bytes)
            if reduces and group.trained:
                interleaved = self._value_bytes + self._reduced_bytes
                total += self._hardware.elementwise(_INTERLEAVING * group.trained * interleaved)
        if gathers and self._value_bytes != self._stored_bytes:
            total += self._hardware.elementwise(self._unsharded(action.node) * cast)
        return total + (self._adds(groups) if not (reduces or action.work is Work.FORWARD) else 0.0)

    def _adds(self, groups: Groups) -> float:
        """Gradients of a microbatch that is not the last are added to those before, in the dtype of reduction."""
        each = self._value_bytes + 2 * self._reduced_bytes
        casts = self._hardware.device == "cuda" and self._value_bytes != self._reduced_bytes
        longer = _CASTING if casts else 1.0
        return longer * sum(self._hardware.elementwise(group.trained * each) for group in groups if group.trained)

    def trained_shard(self, rank: int) -> int:
        """Trained parameters of which a rank holds the only copy of its replica."""
        total = 0
        for node in self._plan.nodes_of(rank):
            for group in self._groups[node]:
                total += group.trained // self._spans.of(node, rank, group.axis)[0]
            if not self._plan.layouts[node.module].reshard:
                total += self._unsharded(node)
        return total

    def _unsharded(self, node: Node) -> int:
        """Trained parameters of experts that no group gathers."""
        layout = self._plan.layouts[node.module]
        if layout.edp > 1:
            return 0
        parts = self._plan.facts[node.module].parts[slice(*self._plan.splits[node.module][node.stage])]
        return sum(-(-part.expert_parameters // layout.expert_size) for part in parts)


def passes_of(groups: Groups, *, gathers: bool) -> HostWork:
    """What a host does for groups in a pass, but for sums."""
    count, tensors = len(groups), sum(group.tensors for group in groups)
    return HostWork(
        groups=count, group_tensors=tensors, gathers=gathers * count, gathered_tensors=gathers * tensors
    )  # fmt: skip


def sums_of(groups: Groups) -> HostWork:
    """What a host does for the sums of groups' gradients, which those without a trained parameter do not have."""
    trained = [group for group in groups if group.trained]
    return HostWork(sums=len(trained), summed_tensors=sum(group.tensors for group in trained))
