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
from counterpoint.plan.batch import BatchPlan
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.plan.work import works_of
from counterpoint.simulate.cast import Cast
from counterpoint.simulate.hosts import Launches
from counterpoint.simulate.part_prices import Load, PartPrices
from counterpoint.simulate.shard_prices import ShardPrices, passes_of, sums_of
from counterpoint.simulate.sharding import by_group
from counterpoint.simulate.sizes import BYTES
from counterpoint.simulate.spans import Spans

_NORM_PASSES = 4
"""How often a rank's gradients are read or written for their norm and to be set to zero, by kernels of many tensors."""

_SCALAR_BYTES = 256
"""Loss, norms and flags that all ranks sum at the end of a step."""


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
class Prices:
    """Prices of one step for those who play it; `cost` and `durations` are the machine's, `begins` when each rank has
    updated."""

    def __init__(self, plan: Plan, hardware: Hardware, batch: BatchPlan, cast: Cast, execution: Execution) -> None:
        self._plan, self._hardware, self._batch, self._cast = plan, hardware, batch, cast
        self._works = works_of(plan)
        self._spans = Spans(plan, hardware.ranks_per_node)
        self._parts = PartPrices(plan, hardware, self._works, self._spans, overlaps=execution.overlaps_products)
        self._shards = ShardPrices(plan, hardware, self._works, self._spans)
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
        seconds = self._hardware.collective("all_reduce", _SCALAR_BYTES, len(members), self._spans.nodes(members))
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
        lane = layout.coordinate(self._cast.payer(rank, action.node, action.microbatch)).dp
        gathers = layout.reshard or action in self._first_computes(rank)
        key = (
            action.node,
            action.work,
            action.microbatch,
            action.ahead,
            lane,
            gathers,
            self._spans.every(action.node, rank),
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
        summed = sum((sums_of(self._shards.groups(node)) for node in apart), NO_WORK)
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
        load = self._load(action, lane)
        parts = [self._parts.of(rank, node, place, load) for place in self._places(node)]
        passes = [action.work.of(part.forward, part.inputs, part.weights) for part in parts]
        seconds = [max(one.compute + one.exchange, one.copy) for one in passes]
        exchange = sum(one.exchange for one in passes)
        is_forward = action.work is Work.FORWARD
        # Backward runs nothing again of a layer that no gradient reaches, and gradients of weights need nothing again.
        meets = [is_forward or (action.work is not Work.WEIGHT and part.inputs.kernels > 0) for part in parts]
        again = [met and self._is_recomputed(node, place) for place, met in zip(self._places(node), meets, strict=True)]
        run = [part for part, is_again in zip(parts, again, strict=True) if is_forward or is_again]
        of_forward = sum(part.forward.kernels if is_forward else part.again for part in run)
        work = replace(
            sum((part.calls for part in run), NO_WORK),
            kernels=of_forward,
            backward_kernels=sum(one.kernels for one in passes) - of_forward,
            recomputed=sum(again),
        )
        groups, shards = self._shards.groups_of(action), self._shards
        computes, copies, waits, sums = sum(seconds), 0.0, 0.0, 0.0
        if groups:
            reduces = action in self._reducing
            found = shards.around(rank, action, groups, by_group(groups, seconds), gathers=gathers, reduces=reduces)
            computes, waits, sums = found.computes, found.gathers, found.sums
            copies = shards.copies(rank, action, groups, gathers=gathers, reduces=reduces)
            work += passes_of(groups, gathers=gathers) + (sums_of(groups) if reduces else NO_WORK)
        host = self._host(work) if self._hardware.device == "cpu" else 0.0
        return Price(computes - exchange + copies, exchange, waits, host, sums, work)

    def _is_recomputed(self, node: Node, place: int) -> bool:
        return self._plan.is_recomputed(node.module, self._plan.facts[node.module].parts[place].name)

    def _load(self, action: Compute, lane: int) -> Load:
        batch = self._batch
        share = batch.shares[action.node.module][action.microbatch][lane]
        labels = sum(batch.documents[span.document].loss_tokens for span in share.spans)
        return Load(share, min(labels, share.rows_in))

    def _places(self, node: Node) -> range:
        return range(*self._plan.splits[node.module][node.stage])

    def _transfer(self, rank: int, post: Exchange) -> float:
        size = BYTES[self._plan.dtype]
        sent, received = (
            sum((flow.rows or 0) * flow.columns for flow in flows) for flows in (post.sends, post.receives)
        )
        if not (sent or received):
            return 0.0
        leaves = self._spans.nodes((rank, *self._cast.partners(rank, post))) > 1
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
                groups = self._shards.groups(action.node)
                left += sum(self._shards.sum(rank, action.node, group) for group in groups)
                left += self._host(sums_of(groups)) if self._hardware.device == "cpu" else 0.0
        return left

    def _is_reducing(self, node: Node) -> bool:
        """Whether a backward begins to sum the gradients of a stage."""
        return any(isinstance(action, Compute) and action.node == node for action in self._reducing)

    def _trained_tensors(self, rank: int) -> int:
        places = ((node.module, place) for node in self._plan.nodes_of(rank) for place in self._places(node))
        works = (self._works[module][place] for module, place in places)
        return sum(len(work.facts.tensors) for work in works if work.weights)

    def _norm(self, rank: int) -> float:
        """The norm of a rank's gradients."""
        each = _NORM_PASSES * BYTES[self._plan.stored]
        return self._of_shards(rank, lambda size: self._hardware.elementwise(each * size))

    def _of_shards(self, rank: int, seconds: Callable[[int], float]) -> float:
        """What is done with a rank's trained shards, given its seconds by parameters: on a GPU with all of them at
        once, on a CPU with one tensor after another."""
        trained = self._shards.trained_shard(rank)
        if self._hardware.device == "cuda" or not trained:
            return seconds(trained)
        count = max(1, self._trained_tensors(rank))
        return count * seconds(-(-trained // count))
