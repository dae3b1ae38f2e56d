"""A node's part of a module on this rank: built on the meta device, cut, sharded, then filled with its own values."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

from counterpoint.config.schema import Config
from counterpoint.execute.groups import Groups
from counterpoint.execute.stage import Stage
from counterpoint.models.catalog import model_parts
from counterpoint.models.chain import Chain, build_chain
from counterpoint.parallelize.blocks import Block, Cut, Sharding, block_of, cut_block
from counterpoint.parallelize.compile import apply_compile
from counterpoint.parallelize.context import apply_context_parallel
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.expert import ExpertRank, ExpertSharding, apply_expert_parallel
from counterpoint.parallelize.fsdp import (
    Precision,
    expert_shard_dim,
    finish_reduction,
    local,
    reduce_gradients,
    shard_data_parallel,
)
from counterpoint.parallelize.initialize import initial_values, initialize_, initialize_buffer_
from counterpoint.parallelize.products import travel_of
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.starting import starting_weights
from counterpoint.parallelize.tensor import apply_tensor_parallel
from counterpoint.parallelize.weights import defer_weights
from counterpoint.plan.action import Compute, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.layout import Layout
from counterpoint.plan.plan import Plan
from counterpoint.plan.sizes import DecoderSizes, ModelSizes
from counterpoint.plan.trainability import Train, is_trained
from counterpoint.train.parameters import LocalBuffer, LocalParameter

EMBEDDING, TIED_HEAD, WORDS_COPY = "embed.weight", "head.weight", "words.weight"
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def dtype_of(name: str) -> torch.dtype:
    """The torch dtype of a name in the config."""
    return _DTYPES[name]


def precision_of(config: Config) -> Precision:
    """The run's dtypes."""
    names = config.training.precision
    return Precision(dtype_of(names.parameters), dtype_of(names.compute), dtype_of(names.reduce))


@dataclass(frozen=True, slots=True)
class Replica:
    """One node on one rank: its chain, its stage for the interpreter, its parameters and its tensor-parallel group."""

    chain: Chain
    stage: Stage
    parameters: tuple[LocalParameter, ...]
    buffers: tuple[LocalBuffer, ...]
    tensor_group: dist.ProcessGroup | None
    tie_group: dist.ProcessGroup | None = None

    @property
    def trained(self) -> tuple[LocalParameter, ...]:
        """The parameters that have a gradient."""
        return tuple(parameter for parameter in self.parameters if parameter.is_trained)

    def tie(self) -> None:
        """Sum the gradients of the two copies of the embedding; both stages do it when all is reduced."""
        for parameter in self.trained:
            if self.tie_group is not None and parameter.block.name == EMBEDDING and parameter.gradient.numel():
                dist.all_reduce(parameter.gradient, group=self.tie_group)

    def reduce(self, reached: bool) -> None:
        """The reduce action: gradients set off to data-parallel ranks, by FSDP."""
        reduce_gradients(self.chain, reached)

    def finish_reduction(self, reached: bool) -> None:
        """Wait, on the device, for what the reduce action began; then sum `partial` gradients over tp."""
        finish_reduction(self.chain, reached)
        if self.tensor_group is None or not reached:
            return
        partial = [p.gradient for p in self.trained if p.block.reduction == "partial" and p.block.numel]
        if not partial:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in partial])
        dist.all_reduce(flat, group=self.tensor_group)
        for gradient, summed in zip(partial, torch.split(flat, [g.numel() for g in partial]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def square_sum(self) -> torch.Tensor | float:
        """This rank's part of the squared gradient norm, each shard counted once over its replicas."""
        gradients: dict[int, list[torch.Tensor]] = {}
        for shard in self.trained:
            if shard.block.numel:
                gradients.setdefault(shard.replicas, []).append(shard.gradient)
        total: torch.Tensor | float = 0.0
        for replicas, alike in gradients.items():
            norms = torch.stack(torch._foreach_norm(alike, dtype=torch.float64))
            total = total + norms.square().sum() / replicas
        return total


def build_replica(config: Config, plan: Plan, node: Node, groups: Groups) -> Replica:
    """Build a node's part on this rank; no other rank takes part beyond the groups that exist."""
    world, layout = groups.world, plan.layouts[node.module]
    parts = model_parts(plan.sizes[node.module])
    start, stop = plan.splits[node.module][node.stage]
    precision = precision_of(config)
    with torch.device("meta"):
        chain = build_chain(parts[start:stop]).to(precision.parameters)
    has_experts, overlap = plan.has_experts(node), config.training.tp_overlap
    cutting = _cut(chain, layout, groups, has_experts=has_experts, overlap=overlap)
    sizes = plan.sizes[node.module]
    _freeze(chain, config.modules[node.module].train, sizes)
    if config.training.compile:
        apply_compile(chain)
    apply_recompute(chain, plan.recomputed[node.module])
    weights = defer_weights(chain) if _splits(plan, node) else None
    expert_mesh = groups.expert_mesh(layout) if plan.has_experts(node) else None
    shard_data_parallel(chain, groups.data_mesh(layout), expert_mesh, precision, layout.reshard)
    chain.to_empty(device=world.device)
    tie = plan.tie(node.module, world.rank)
    rules, given = initial_values(plan.sizes[node.module]), starting_weights(plan.sizes[node.module])
    parameters = []
    for name, parameter in chain.named_parameters():
        # A copy of the embedding has the same values under the same name.
        known = _known(name, sizes)
        block, replicas = cutting.block(name, known)
        residual_sums = plan.facts[node.module].residual_sums
        initialize_(local(parameter.detach()), block, config.run.seed, node.module, residual_sums, rules)
        given.fill_(local(parameter.detach()), block)
        copies = len(tie) if tie and known == EMBEDDING else 1
        parameters.append(LocalParameter(node.module, block, parameter, replicas * copies))
    buffers = tuple(LocalBuffer(node.module, name, buffer) for name, buffer in chain.named_buffers())
    for buffer in buffers:
        initialize_buffer_(buffer.value, buffer.name)
    coordinate = layout.coordinate(world.rank)
    is_loss = node.module == plan.sink and node.stage == layout.stages - 1
    stage = Stage(node, chain, is_loss, counts_loss=is_loss and coordinate.tp == 0, weights=weights)
    tie_group = groups.collective(tie) if tie else None
    return Replica(chain, stage, tuple(parameters), buffers, cutting.tensor_group, tie_group)


def _known(name: str, sizes: ModelSizes) -> str:
    """The name of a parameter in the whole model, where the words of other stages are those of the embedding."""
    is_tied_head = name == TIED_HEAD and isinstance(sizes, DecoderSizes) and sizes.tied
    return EMBEDDING if name == WORDS_COPY or is_tied_head else name


def _freeze(chain: Chain, train: Train, sizes: ModelSizes) -> None:
    """Let only what is trained need gradients; a chain without any of it is in evaluation mode."""
    for name, parameter in chain.named_parameters():
        parameter.requires_grad_(is_trained(_known(name, sizes), train))
    chain.train(any(parameter.requires_grad for parameter in chain.parameters()))


def _splits(plan: Plan, node: Node) -> bool:
    """Whether the schedule computes a node's weight gradients apart."""
    return any(isinstance(a, Compute) and a.node == node and a.work is Work.WEIGHT for a in plan.schedule.order)


@dataclass(frozen=True, slots=True)
class _Cutting:
    """How a rank's parameters lie, dense ones by the dense view and experts' by theirs."""

    layout: Layout
    rank: int
    dense: dict[str, Sharding]
    experts: dict[str, ExpertSharding]
    tensor_group: dist.ProcessGroup | None

    def block(self, name: str, known: str) -> tuple[Block, int]:
        """The block of a parameter, which is `known` in the whole model, and how many ranks hold the same."""
        layout = self.layout
        if name in self.experts:
            sharding = self.experts[name]
            dim = expert_shard_dim(sharding.local_shape, layout.edp)
            last = Cut(dim, layout.expert_coordinate(self.rank).edp, layout.edp)
            return cut_block(known, sharding.global_shape, (*sharding.cuts, last), "shard"), 1
        shard = layout.group("dp_shard", self.rank)
        tp_rank = layout.coordinate(self.rank).tp
        block = block_of(known, self.dense[name], tp_rank, layout.tp, shard.index(self.rank), len(shard))
        return block, layout.dp_replicate * block.tensor_copies(layout.tp)


def _cut(chain: Chain, layout: Layout, groups: Groups, *, has_experts: bool, overlap: bool) -> _Cutting:
    """Apply tensor, expert and context parallelism to a chain on the meta device, in this order."""
    rank = groups.world.rank
    coordinate = layout.coordinate(rank)
    tensor = groups.collective(layout.group("tp", rank)) if layout.tp > 1 else None
    travel = None
    if tensor is not None:
        travel = travel_of(TensorGroup(tensor, coordinate.tp, layout.tp), overlap=overlap)
        travel.meet(groups.world.device)
    dense = apply_tensor_parallel(chain, tensor, coordinate.tp, layout.tp, layout.sequence_parallel, travel=travel)
    experts: dict[str, ExpertSharding] = {}
    if has_experts:
        view = layout.expert_coordinate(rank)
        among = groups.collective(layout.group("ep", rank)) if layout.expert_size > 1 else None
        lane = None
        if layout.lane_size > 1:
            ranks = layout.group("lane", rank)
            lane = TensorGroup(groups.collective(ranks), ranks.index(rank), len(ranks))
        experts = apply_expert_parallel(chain, ExpertRank(among, view.ep, layout.ep, view.etp, layout.etp), lane)
    context = groups.collective(layout.group("cp", rank)) if layout.cp > 1 else None
    apply_context_parallel(chain, context, coordinate.cp, layout.cp)
    return _Cutting(layout, rank, dense, experts, tensor)
