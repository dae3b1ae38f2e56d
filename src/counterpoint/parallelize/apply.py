"""A plain model is made parallel from outside, in one order that stands here.

| step | why it comes there |
|---|---|
| tensor parallelism | It cuts heads, widths and words; later steps cut its pieces. |
| expert parallelism | It cuts the experts, which tensor parallelism does not touch. |
| context parallelism | It distributes the heads of a tensor-parallel rank. |
| freezing | Later steps read which parameters need gradients. |
| compilation | Compiled regions call the exchanges that are in place by now. |
| recomputation, offload | Compiled functions run again, inside FSDP2's hooks: a part is gathered once for backward. |
| deferred weights | Products that defer their weight gradients replace those that do not. |
| FSDP2 | It shards the remaining piece of each parameter. |
| memory | Parameters are cut before they have values. |

Names of parameters stay as they are throughout.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

import torch.distributed as dist

from counterpoint.config.training import PrecisionConfig
from counterpoint.execute.groups import Groups
from counterpoint.kinds.rules import TensorRule
from counterpoint.models.chain import Chain
from counterpoint.models.seams import LaneTotal
from counterpoint.parallelize.blocks import Block, Cut, Sharding, block_of, cut_block
from counterpoint.parallelize.compile import apply_compile
from counterpoint.parallelize.context import apply_context_parallel
from counterpoint.parallelize.discard import apply_discard
from counterpoint.parallelize.exchange import RowExchange, TensorGroup, keep
from counterpoint.parallelize.expert import ExpertRank, ExpertSharding, apply_expert_parallel
from counterpoint.parallelize.fsdp import begin_accumulation, expert_shard_dim, shard_data_parallel
from counterpoint.parallelize.keep import InPlace
from counterpoint.parallelize.offload import HostStore
from counterpoint.parallelize.products import travel_of
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.tensor import apply_tensor_parallel
from counterpoint.parallelize.weights import WeightQueue, defer_weights
from counterpoint.plan.activations import KEEPS_ALL, ActivationPolicy
from counterpoint.plan.layout import Layout
from counterpoint.plan.trainability import Train, is_trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallelism:
    """What is done to a chain beside cutting it by its layout.

    `rules` are the roles of parameters under tensor parallelism. `known_as` maps parameters to their names in the whole
    model where these differ, such as for a copy of the embedding; `train` uses the names in the whole model.
    `has_experts` belongs to the stage, so it is the same on all of its ranks. `overlaps` lets exchanges overlap with
    products, `recomputed` are kinds of layers, `activations` says what layers keep else, and `defers_weights` gives the
    chain a queue of weight gradients.
    """

    precision: PrecisionConfig
    rules: Sequence[TensorRule]
    train: Train = "all"
    known_as: Mapping[str, str] = field(default_factory=dict)
    has_experts: bool = False
    overlaps: bool = False
    compiles: bool = False
    recomputed: Set[str] = frozenset()
    activations: ActivationPolicy = KEEPS_ALL
    defers_weights: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A rank's block of a parameter, and the number of ranks that hold the same one; `everywhere` gives the blocks of
    all ranks of the stage, in their order."""

    block: Block
    copies: int
    everywhere: Callable[[], tuple[Block, ...]]


@dataclass(frozen=True, slots=True)
class ParallelChain:
    """A rank's piece of a chain, whose memory has no values yet. `shares` are by the parameters' names in the chain;
    their blocks have the names in the whole model."""

    chain: Chain
    shares: Mapping[str, Share]
    weights: WeightQueue | None
    tensor_group: dist.ProcessGroup | None


def parallelize(chain: Chain, layout: Layout, groups: Groups, how: Parallelism) -> ParallelChain:
    """Make this rank's piece of a chain on the meta device, in place; every rank of the stage calls it.

    Raises PlacementError for what a degree does not divide and for parameters without a role.
    """
    place = _Place(layout, groups)
    tensor = place.among("tp")
    dense = _cut_dense(chain, place, tensor, how)
    experts = _cut_experts(chain, place) if how.has_experts else {}
    apply_context_parallel(chain, place.among("cp"))
    _sum_over_lane(chain, place)
    _freeze(chain, how)
    if how.compiles:
        apply_compile(chain)
    _keep_less(chain, how)
    weights = defer_weights(chain) if how.defers_weights else None
    expert_mesh = groups.expert_mesh(layout) if how.has_experts else None
    shard_data_parallel(
        chain,
        groups.data_mesh(layout),
        expert_mesh,
        how.precision,
        reshard=layout.reshard,
        recomputes=bool(how.recomputed),
    )
    chain.to_empty(device=groups.world.memory)
    begin_accumulation(chain, layout.reshard)
    shares: dict[str, Share] = {}
    for name, _parameter in chain.named_parameters():
        known = how.known_as.get(name, name)
        in_experts = name in experts
        shares[name] = place.of_expert(known, experts[name]) if in_experts else place.of_dense(known, dense[name])
    return ParallelChain(chain, shares, weights, None if tensor is None else tensor.group)


@dataclass(frozen=True, slots=True)
class _Place:
    """A rank in the layout of its module."""

    layout: Layout
    groups: Groups

    @property
    def rank(self) -> int:
        return self.groups.world.rank

    def among(self, axis: str) -> TensorGroup | None:
        """The rank among those of an axis, None if it is alone."""
        ranks = self.layout.group(axis, self.rank)
        if len(ranks) == 1:
            return None
        return TensorGroup(self.groups.collective(ranks), ranks.index(self.rank), len(ranks))

    @property
    def stage(self) -> tuple[int, ...]:
        return self.layout.stage_ranks(self.layout.coordinate(self.rank).pp)

    def of_dense(self, known: str, sharding: Sharding) -> Share:
        """The share of a parameter in the dense view."""
        layout = self.layout

        def block_at(rank: int) -> Block:
            shard = layout.group("dp_shard", rank)
            tp_rank = layout.coordinate(rank).tp
            return block_of(known, sharding, tp_rank, layout.tp, shard.index(rank), len(shard))

        block = block_at(self.rank)
        copies = layout.dp_replicate * block.tensor_copies(layout.tp)
        return Share(block, copies, lambda: tuple(map(block_at, self.stage)))

    def of_expert(self, known: str, sharding: ExpertSharding) -> Share:
        """The share of a parameter in the expert view."""
        layout = self.layout
        dim = expert_shard_dim(sharding.local_shape, layout.edp)

        def block_at(rank: int) -> Block:
            view = layout.expert_coordinate(rank)
            cuts = (*sharding.cuts_of(view.ep, view.etp), Cut(dim, view.edp, layout.edp))
            return cut_block(known, sharding.global_shape, cuts, "shard")

        return Share(block_at(self.rank), copies=1, everywhere=lambda: tuple(map(block_at, self.stage)))


def _cut_dense(chain: Chain, place: _Place, tensor: TensorGroup | None, how: Parallelism) -> dict[str, Sharding]:
    travel = None
    if tensor is not None:
        travel = travel_of(tensor, overlap=how.overlaps)
        travel.meet(place.groups.world.device)
    return apply_tensor_parallel(chain, tensor, place.layout.sequence_parallel, how.rules, travel=travel)


def _cut_experts(chain: Chain, place: _Place) -> dict[str, ExpertSharding]:
    layout, view, among = place.layout, place.layout.expert_coordinate(place.rank), place.among("ep")
    expert_rank = ExpertRank(None if among is None else among.group, view.ep, layout.ep, view.etp, layout.etp)
    return apply_expert_parallel(chain, expert_rank, place.among("lane"))


def _sum_over_lane(chain: Chain, place: _Place) -> None:
    """Let losses of items' means sum over all ranks of the lane; a chain without such a loss needs no group."""
    names = [name for name, module in chain.named_modules() if type(module) is LaneTotal]
    lane = place.among("lane") if names else None
    if lane is not None:
        for name in names:
            chain.set_submodule(name, RowExchange(lane.all_reduce, keep))


def _keep_less(chain: Chain, how: Parallelism) -> None:
    """Recompute layers or parts of them, and let the host hold what they keep."""
    policy = how.activations
    store = HostStore() if policy.offloads else InPlace()
    apply_recompute(chain, how.recomputed, policy.keeps, store)
    if policy.discards or policy.offloads:
        apply_discard(chain, policy.discards, how.recomputed, store)


def _freeze(chain: Chain, how: Parallelism) -> None:
    """Let only trained parameters need gradients; a chain without any is in evaluation mode."""
    for name, parameter in chain.named_parameters():
        parameter.requires_grad_(is_trained(how.known_as.get(name, name), how.train))
    chain.train(any(parameter.requires_grad for parameter in chain.parameters()))
