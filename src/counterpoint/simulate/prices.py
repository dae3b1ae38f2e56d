"""What the actions and posts of a step's programs cost on hardware, for the machine that plays them.

A compute costs what its parts do, and what of its gathers and sums nothing hides. A transfer takes its bytes' time once
both ends have posted it, while ranks go on. The update of one step is what the next one begins with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

from counterpoint.check.events import Exchange, Post
from counterpoint.costs.hardware import Hardware
from counterpoint.costs.host import NO_WORK, HostWork
from counterpoint.plan.action import Action, Compute, Reduce, Step, Work
from counterpoint.plan.batch import BatchPlan, Share
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import PartWork, works_of
from counterpoint.simulate.cast import Cast
from counterpoint.simulate.hosts import Launches
from counterpoint.simulate.operations import ExchangeKind, Operations, PartOperations, part_operations, setting_of
from counterpoint.simulate.seconds import Seconds, calls_of, seconds_of
from counterpoint.simulate.sharding import (
    Overlapped,
    ShardedGroup,
    by_group,
    one_after_the_other,
    overlapped,
    sharded_groups,
)
from counterpoint.simulate.sizes import BYTES


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a plan is executed beyond what it says: whether products overlap with the transfer of their rows over tp."""

    overlaps_products: bool = True


@final
@dataclass(frozen=True, slots=True)
class Price:
    """What a compute takes on a rank: its parts' work, exchanges inside it that nothing hides, gathers that nothing
    hides, the host's share where it delays it, the seconds of sums that are left after its end, and what a host does
    for it."""

    work: float
    exchange: float
    gather: float
    host: float
    sums: float
    host_work: HostWork

    @property
    def seconds(self) -> float:
        """From its begin to its end."""
        return self.work + self.exchange + self.gather + self.host


@final
@dataclass(frozen=True, slots=True)
class _Load:
    """The share of a lane, and the rows of it that scores are computed of."""

    share: Share
    scored: int


@final
@dataclass(frozen=True, slots=True)
class _PartPrice:
    """A part's forward, gradients of inputs and of weights, and the calls of its forward."""

    forward: Seconds
    inputs: Seconds
    weights: Seconds
    calls: HostWork


@final
class Prices:
    """Prices of one step for those who play it; `cost` and `durations` are the machine's, `begins` when each rank has
    updated."""

    def __init__(self, plan: Plan, hardware: Hardware, batch: BatchPlan, cast: Cast, execution: Execution) -> None:
        self._plan, self._hardware, self._execution = plan, hardware, execution
        self._batch, self._cast = batch, cast
        self._works = works_of(plan)
        self._value_bytes, self._stored_bytes, self._reduced_bytes = (
            BYTES[dtype] for dtype in (plan.dtype, plan.stored, plan.reduced)
        )
        self._groups = {node: sharded_groups(plan, node) for node in plan.stages.nodes}
        self._parts: dict[object, _PartPrice] = {}
        self._known: dict[object, Price] = {}
        self._reducing = plan.schedule.reducing

    def cost(self, rank: int, action: Compute) -> float:
        """Seconds of a compute on a rank."""
        return self.price(rank, action).seconds

    def durations(self, rank: int, post: Post) -> float:
        """Seconds of a transfer, and of what the step sums; other collectives are part of their compute's cost."""
        if isinstance(post, Exchange):
            return self._transfer(rank, post)
        if not isinstance(post.action, Step):
            return 0.0
        members = self._cast.members(rank, post)
        seconds = self._hardware.collective("all_reduce", _SCALAR_BYTES, len(members), self._nodes(members))
        if len(members) == len(self._plan.placement.active):
            seconds += self._left_sums[rank] + self._norm(rank)
        return seconds

    @cached_property
    def begins(self) -> Mapping[int, float]:
        """When each rank has applied the update of the step before."""
        return {rank: self.update(rank) for rank in self._cast.programs}

    def update(self, rank: int) -> float:
        """Seconds of the optimizer's update of a rank's shards."""
        return self._of_shards(rank, self._hardware.update)

    def price(self, rank: int, action: Compute) -> Price:
        """The price of a compute on a rank."""
        layout = self._plan.layouts[action.node.module]
        lane = layout.coordinate(self._cast.payer(rank, action.node.module)).dp
        gathers = layout.reshard or action in self._first_computes(rank)
        key = (
            action.node,
            action.work,
            action.microbatch,
            action.ahead,
            lane,
            gathers,
            self._span_key(action.node, rank),
        )
        if key not in self._known:
            self._known[key] = self._price(rank, action, lane, gathers)
        return self._known[key]

    def launching(self, rank: int) -> float:
        """Seconds in which a rank's host launches a step, which a device may run behind."""
        computes = (action for action in self._cast.programs[rank] if isinstance(action, Compute))
        return sum(self.launches(rank, action).seconds for action in computes) + self.updating(rank)

    def updating(self, rank: int) -> float:
        """Seconds of a rank's host for what follows the last compute of a step: sums that no backward began, the update
        of its tensors, and transfers."""
        program = self._cast.programs[rank]
        last = max((number for number, one in enumerate(program) if isinstance(one, Compute)), default=-1)
        apart = (one.node for one in program if isinstance(one, Reduce) and not self._is_reducing(one.node))
        summed = sum((_sums_of(self._groups[node]) for node in apart), NO_WORK)
        others = HostWork(transfers=len(program) - last - 1, updated_tensors=self._trained_tensors(rank))
        return self._host(summed + others)

    def launches(self, rank: int, action: Compute) -> Launches:
        """What a rank's host does for a compute and for transfers since the one before."""
        if rank not in self._before:
            others = 0
            for one in self._cast.programs[rank]:
                if isinstance(one, Compute):
                    self._before.setdefault(rank, {})[one] = others
                others = 0 if isinstance(one, Compute) else others + 1
        work = self.price(rank, action).host_work + HostWork(transfers=self._before[rank][action])
        return Launches(self._host(work), work.launches)

    @cached_property
    def _before(self) -> dict[int, dict[Compute, int]]:
        """By rank and compute, the other actions since the one before."""
        return {}

    def _host(self, work: HostWork) -> float:
        return self._hardware.host_seconds(work, is_compiled=self._plan.path == "compiled")

    def _price(self, rank: int, action: Compute, lane: int, gathers: bool) -> Price:
        node = action.node
        parts = [self._part(rank, node, place, self._load(action, lane)) for place in self._places(node)]
        passes = [action.work.of(part.forward, part.inputs, part.weights) for part in parts]
        seconds = [max(one.compute + one.exchange, one.copy) for one in passes]
        exchange = sum(one.exchange for one in passes)
        is_forward = action.work is Work.FORWARD
        # Backward runs nothing again of a layer that no gradient reaches, and gradients of weights need nothing again.
        meets = [is_forward or (action.work is not Work.WEIGHT and part.inputs.kernels > 0) for part in parts]
        again = [met and self._is_recomputed(node, place) for place, met in zip(self._places(node), meets, strict=True)]
        runs = (is_forward or is_again for is_again in again)
        calls = sum((part.calls for part, has_run in zip(parts, runs, strict=True) if has_run), NO_WORK)
        work = replace(calls, kernels=sum(one.kernels for one in passes), recomputed=sum(again))
        groups = self._groups_of(action)
        computes, copies, waits, sums = sum(seconds), 0.0, 0.0, 0.0
        if groups:
            reduces = action in self._reducing
            found = self._shard(rank, node, groups, by_group(groups, seconds), gathers, not is_forward, reduces)
            computes, waits, sums = found.computes, found.gathers, found.sums
            copies = self._copies(rank, node, groups, gathers, reduces)
            copies += self._adds(groups) if not (is_forward or reduces) else 0.0
            work += _passes_of(groups, gathers=gathers) + (_sums_of(groups) if reduces else NO_WORK)
        host = self._host(work) if self._hardware.device == "cpu" else 0.0
        return Price(computes - exchange + copies, exchange, waits, host, sums, work)

    def _groups_of(self, action: Compute) -> tuple[ShardedGroup, ...]:
        """The groups that a pass needs: backward those that gradients reach."""
        groups = self._groups[action.node]
        if action.work is Work.FORWARD:
            return groups
        return () if action.work is Work.WEIGHT else tuple(one for one in groups if self._is_reached(action.node, one))

    def _is_reached(self, node: Node, group: ShardedGroup) -> bool:
        works = self._works[node.module][slice(*self._plan.splits[node.module][node.stage])]
        return bool(group.trained) or any(works[place].inputs or works[place].has_pairs_back for place in group.parts)

    def _is_recomputed(self, node: Node, place: int) -> bool:
        return self._plan.is_recomputed(node.module, self._plan.facts[node.module].parts[place].name)

    def _shard(
        self, rank: int, node: Node, groups: tuple[ShardedGroup, ...], seconds: list[float], gathers: bool,
        is_backward: bool, reduces: bool,
    ) -> Overlapped:  # fmt: skip
        gather = [self._gather(rank, node, group) if gathers else 0.0 for group in groups]
        sums = [self._sum(rank, node, group) if reduces else 0.0 for group in groups]
        if is_backward:
            seconds, gather, sums = seconds[::-1], gather[::-1], sums[::-1]
        combine = one_after_the_other if self._hardware.device == "cpu" else overlapped
        return combine(seconds, gather, sums)

    def _gather(self, rank: int, node: Node, group: ShardedGroup) -> float:
        """The gather; one rank alone has it all."""
        ranks, nodes = self._span(node, rank, group.axis)
        return self._hardware.collective("all_gather", group.parameters * self._value_bytes, ranks, nodes)

    def _sum(self, rank: int, node: Node, group: ShardedGroup) -> float:
        """The sum of gradients over the shards, and that over replicas."""
        if not group.trained:
            return 0.0
        ranks, nodes = self._span(node, rank, group.axis)
        size = group.trained * self._reduced_bytes
        # Over gloo torch's own reduce-scatter costs as much as an all-reduce of the same tensor.
        kind: ExchangeKind = "all_reduce" if self._hardware.device == "cpu" else "reduce_scatter"
        seconds = self._hardware.collective(kind, size, ranks, nodes)
        if group.axis == "dp_shard":
            replicas, spanned = self._span(node, rank, "dp_replicate")
            seconds += self._hardware.collective("all_reduce", size // ranks, replicas, spanned)
        return seconds

    def _copies(
        self, rank: int, node: Node, groups: tuple[ShardedGroup, ...], gathers: bool, reduces: bool
    ) -> float:  # fmt: skip
        """What FSDP2 copies: a shard is cast before a gather, and what is gathered copied to its place; gradients are
        cast and interleaved before a sum. It shares the memory with what computes, so none of it is hidden."""
        cast, total = self._stored_bytes + self._value_bytes, 0.0
        for group in groups:
            ranks, _nodes = self._span(node, rank, group.axis)
            if gathers:
                total += self._hardware.elementwise(2 * group.parameters // ranks * cast)
                total += self._hardware.elementwise(2 * group.parameters * self._value_bytes)
            if reduces and group.trained:
                interleaved = self._value_bytes + self._reduced_bytes
                total += self._hardware.elementwise(_INTERLEAVING * group.trained * interleaved)
        if gathers and self._value_bytes != self._stored_bytes:
            total += self._hardware.elementwise(self._unsharded(node) * cast)
        return total

    def _adds(self, groups: tuple[ShardedGroup, ...]) -> float:
        """Gradients of a microbatch that is not the last are added to those before, in the dtype of reduction."""
        each = self._value_bytes + 2 * self._reduced_bytes
        casts = self._hardware.device == "cuda" and self._value_bytes != self._reduced_bytes
        longer = _CASTING if casts else 1.0
        return longer * sum(self._hardware.elementwise(group.trained * each) for group in groups if group.trained)

    def _part(self, rank: int, node: Node, place: int, load: _Load) -> _PartPrice:
        work = self._works[node.module][place]
        rows = self._rows(node.module, place, load)
        # Layers of a kind have the same facts but for their names.
        key = (self._kind(node.module, place), rows, load.share.spans, self._span_key(node, rank))
        if key not in self._parts:
            operations = self._operations(node, work, rows, load.share)
            passes = (operations.forward, operations.inputs, operations.weights)
            forward, inputs, weights = (self._seconds(rank, node, one) for one in passes)
            # On a CPU the tables of collectives have the calls.
            calls = calls_of(operations.forward)
            calls = replace(calls, exchanges=0) if self._hardware.device == "cpu" else calls
            self._parts[key] = _PartPrice(forward, inputs, weights, calls)
        return self._parts[key]

    def _seconds(self, rank: int, node: Node, operations: Operations) -> Seconds:
        return seconds_of(operations, self._hardware, self._plan.dtype, lambda axis: self._span(node, rank, axis))

    def _operations(self, node: Node, work: PartWork, rows: int, share: Share) -> PartOperations:
        plan, layout = self._plan, self._plan.layouts[node.module]
        overlaps = self._execution.overlaps_products and self._hardware.device == "cuda"
        setting = setting_of(plan, node, work.facts.name, layout, self._value_bytes, overlaps_products=overlaps)
        # Documents are traded wherever they lie; only a module that reads items knows which are whole on a rank.
        is_whole = layout.cp == 1 or (node.module != plan.sink and _is_whole(share, layout.cp))
        setting = replace(setting, is_whole=is_whole, is_even=share.is_even)
        load = plan.facts[node.module].load(span.rows_in for span in share.spans)
        return part_operations(work, load, rows, setting)

    def _rows(self, module: str, place: int, load: _Load) -> int:
        """Rows of a lane that a part computes: nothing reads those without a label of some parts."""
        is_labelled = self._plan.facts[module].parts[place].labelled and self._plan.layouts[module].tp == 1
        return load.scored if is_labelled else load.share.rows_in

    def _load(self, action: Compute, lane: int) -> _Load:
        batch = self._batch
        share = batch.shares[action.node.module][action.microbatch][lane]
        labels = sum(batch.documents[span.document].loss_tokens for span in share.spans)
        return _Load(share, min(labels, share.rows_in))

    def _places(self, node: Node) -> range:
        return range(*self._plan.splits[node.module][node.stage])

    @cached_property
    def _kinds(self) -> dict[str, list[int]]:
        """For each part of a module the place of the first one whose work is the same."""
        kinds: dict[str, list[int]] = {}
        for module, works in self._works.items():
            known: dict[object, int] = {}
            kinds[module] = [known.setdefault(self._likeness(module, work), place) for place, work in enumerate(works)]
        return kinds

    def _likeness(self, module: str, work: PartWork) -> object:
        facts, plan = work.facts, self._plan
        name = facts.name
        return (
            facts.tensors, facts.flops_per_row, facts.flops_per_pair, facts.flops_per_item, facts.activation_elements,
            facts.hidden_out, facts.mixers, facts.mixtures, facts.scores, work.inputs, work.weights,
            work.has_pairs_back, plan.is_recomputed(module, name), plan.is_offloaded(module, name),
        )  # fmt: skip

    def _kind(self, module: str, place: int) -> tuple[str, int]:
        return module, self._kinds[module][place]

    def _span(self, node: Node, rank: int, axis: str) -> tuple[int, int]:
        """The ranks of a group, and the nodes that they lie on."""
        key = (node.module, rank, axis)
        if key not in self._spans:
            ranks = self._plan.layouts[node.module].group(axis, rank)
            self._spans[key] = len(ranks), self._nodes(ranks)
        return self._spans[key]

    @cached_property
    def _spans(self) -> dict[tuple[str, int, str], tuple[int, int]]:
        return {}

    def _span_key(self, node: Node, rank: int) -> object:
        return tuple(self._span(node, rank, axis) for axis in _AXES)

    def _nodes(self, ranks: tuple[int, ...]) -> int:
        return len({rank // self._hardware.ranks_per_node for rank in ranks})

    def _transfer(self, rank: int, post: Exchange) -> float:
        size = BYTES[self._plan.dtype]
        sent, received = (
            sum((flow.rows or 0) * flow.columns * flow.count for flow in flows) for flows in (post.sends, post.receives)
        )
        if not (sent or received):
            return 0.0
        own = rank // self._hardware.ranks_per_node
        leaves = any(peer // self._hardware.ranks_per_node != own for peer in self._cast.partners(rank, post))
        return self._hardware.transfer(max(sent, received) * size, 2 if leaves else 1)

    def _first_computes(self, rank: int) -> frozenset[Compute]:
        if rank not in self._firsts:
            firsts: dict[Node, Compute] = {}
            for action in self._cast.programs[rank]:
                if isinstance(action, Compute) and action.work is not Work.WEIGHT:
                    firsts.setdefault(action.node, action)
            self._firsts[rank] = frozenset(firsts.values())
        return self._firsts[rank]

    @cached_property
    def _firsts(self) -> dict[int, frozenset[Compute]]:
        return {}

    @cached_property
    def _left_sums(self) -> dict[int, float]:
        """Seconds of each rank's sums that nothing it computes later hides."""
        return {rank: self._left(rank, program) for rank, program in self._cast.programs.items()}

    def _left(self, rank: int, program: tuple[Action, ...]) -> float:
        left = 0.0
        reduced = {action.node for action in program if isinstance(action, Reduce)}
        for action in program:
            if isinstance(action, Compute):
                price = self.price(rank, action)
                left = max(0.0, left - price.seconds) + price.sums
            elif isinstance(action, Reduce) and not self._is_reducing(action.node) and action.node in reduced:
                groups = self._groups[action.node]
                left += sum(self._sum(rank, action.node, group) for group in groups)
                left += self._host(_sums_of(groups)) if self._hardware.device == "cpu" else 0.0
        return left

    def _is_reducing(self, node: Node) -> bool:
        """Whether a backward begins to sum the gradients of a stage."""
        return any(isinstance(action, Compute) and action.node == node for action in self._reducing)

    def _trained_shard(self, rank: int) -> int:
        total = 0
        for node in self._plan.nodes_of(rank):
            for group in self._groups[node]:
                total += group.trained // self._span(node, rank, group.axis)[0]
            if not self._plan.layouts[node.module].reshard:
                total += self._unsharded(node)
        return total

    def _trained_tensors(self, rank: int) -> int:
        places = ((node.module, place) for node in self._plan.nodes_of(rank) for place in self._places(node))
        works = (self._works[module][place] for module, place in places)
        return sum(len(work.facts.tensors) for work in works if work.weights)

    def _unsharded(self, node: Node) -> int:
        """Trained parameters of experts that no group gathers."""
        layout = self._plan.layouts[node.module]
        if layout.edp > 1:
            return 0
        parts = (self._plan.facts[node.module].parts[place] for place in self._places(node))
        return sum(-(-part.expert_parameters // layout.expert_size) for part in parts)

    def _norm(self, rank: int) -> float:
        """The norm of a rank's gradients."""
        each = _NORM_PASSES * self._stored_bytes
        return self._of_shards(rank, lambda size: self._hardware.elementwise(each * size))

    def _of_shards(self, rank: int, seconds: Callable[[int], float]) -> float:
        """What is done with a rank's trained shards, given its seconds by parameters: on a GPU with all of them at
        once, on a CPU with one tensor after another."""
        trained = self._trained_shard(rank)
        if self._hardware.device == "cuda" or not trained:
            return seconds(trained)
        count = max(1, self._trained_tensors(rank))
        return count * seconds(-(-trained // count))


_AXES = ("dp_shard", "dp_replicate", "cp", "tp", "ep", "edp")

_INTERLEAVING = 3
"""How much longer the copy before a reduce-scatter takes than its bytes: torch's `chunk_cat` reaches 1.0 to 1.8 of an
H200's 4.2 TB/s (docs/performance.md)."""

_CASTING = 2.6
"""How much longer a sum of tensors of two dtypes takes than its bytes: torch's kernel for it reaches 1.6 of an H200's
4.2 TB/s (28 ms for 4.5e9 gradients, `hybrid_vlm_disjoint8_first_profiled_2xh200.json` in benchmarks/results)."""

_NORM_PASSES = 4
"""How often a rank's gradients are read or written for their norm and to be set to zero, by kernels of many tensors."""

_SCALAR_BYTES = 256
"""Loss, norms and flags that all ranks sum at the end of a step."""


def _passes_of(groups: tuple[ShardedGroup, ...], *, gathers: bool) -> HostWork:
    """What a host does for groups in a pass, but for sums."""
    count, tensors = len(groups), sum(group.tensors for group in groups)
    return HostWork(
        groups=count, group_tensors=tensors, gathers=gathers * count, gathered_tensors=gathers * tensors
    )  # fmt: skip


def _sums_of(groups: tuple[ShardedGroup, ...]) -> HostWork:
    """What a host does for the sums of groups' gradients, which those without a trained parameter do not have."""
    trained = [group for group in groups if group.trained]
    return HostWork(sums=len(trained), summed_tensors=sum(group.tensors for group in trained))


def _is_whole(share: Share, cp: int) -> bool:
    """Whether no document, or item, of a lane lies on two of its context-parallel ranks."""
    size = share.rows_in // cp
    return cp == 1 or all(span.row_in // size == (span.row_in + span.rows_in - 1) // size for span in share.spans)
