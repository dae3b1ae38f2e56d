"""A node (one stage of one module) on this rank: its parallelised chain, and the reductions of its gradients."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from counterpoint.execute.groups import Groups
from counterpoint.execute.stage import Stage
from counterpoint.families import family_of, initial_of, rules_of
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model, ModelSection
from counterpoint.losses import item_losses, score_losses
from counterpoint.models.chain import Chain, build_chain
from counterpoint.models.linear_loss import LinearLoss
from counterpoint.parallelize.apply import Parallelism, parallelize
from counterpoint.parallelize.fsdp import dtype_of, finish_reduction, reduce_gradients
from counterpoint.parallelize.initialize import initialize_, initialize_buffer_
from counterpoint.parallelize.starting import fill_given_
from counterpoint.parallelize.whole import copies_of
from counterpoint.plan.action import Compute, Work
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan
from counterpoint.train.parameters import LocalBuffer, LocalParameter
from counterpoint.train.settings import EngineSettings

EMBEDDING, TIED_HEAD, WORDS_COPY = "embed.weight", "head.weight", "words.weight"


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
        """Sum the gradients of the two copies of the embedding; both stages call it after all reductions."""
        for parameter in self.trained:
            if self.tie_group is not None and parameter.block.name == EMBEDDING and parameter.gradient.numel():
                dist.all_reduce(parameter.gradient, group=self.tie_group)

    def reduce(self, reached: bool) -> None:
        """The reduce action: begin FSDP's reduction of gradients over data-parallel ranks."""
        reduce_gradients(self.chain, reached)

    def finish_reduction(self, reached: bool) -> None:
        """Make the device wait for the reduce action, then sum `partial` gradients over tp."""
        finish_reduction(self.chain, reached)
        if self.tensor_group is None or not reached:
            return
        partial = [p for p in self.trained if p.block.reduction == "partial" and p.block.numel]
        if not partial:
            return
        rank, size = self.tensor_group.rank(), self.tensor_group.size()
        places = [rank // parameter.block.tensor_copies(size) for parameter in partial]
        flat = torch.cat([_among(p.gradient, p.block.pieces, place) for p, place in zip(partial, places, strict=True)])
        dist.all_reduce(flat, group=self.tensor_group)
        summed = torch.split(flat, [p.gradient.numel() * p.block.pieces for p in partial])
        for parameter, place, pieces in zip(partial, places, summed, strict=True):
            own = pieces.view(parameter.block.pieces, *parameter.gradient.shape)[place]
            parameter.gradient.copy_(own)


def _among(gradient: torch.Tensor, pieces: int, place: int) -> torch.Tensor:
    """A gradient at its place among those of all pieces, flat, with zeros for the others.

    So the ranks of one piece need no communicator of their own; there are few, of heads that are fewer than ranks.
    """
    if pieces == 1:
        return gradient.reshape(-1)
    among = gradient.new_zeros((pieces, gradient.numel()))
    among[place] = gradient.reshape(-1)
    return among.view(-1)


def square_sum(parameters: Iterable[LocalParameter]) -> torch.Tensor | float:
    """This rank's contribution to a squared gradient norm; each shard is divided by its number of replicas."""
    gradients: dict[tuple[int, torch.dtype], list[torch.Tensor]] = {}
    for shard in parameters:
        if shard.block.numel:
            gradients.setdefault((shard.replicas, shard.gradient.dtype), []).append(shard.gradient)
    total: torch.Tensor | float = 0.0
    for (replicas, _dtype), alike in gradients.items():
        norms = torch.stack(torch._foreach_norm(alike, dtype=torch.float64))
        total = total + norms.square().sum() / replicas
    return total


def build_replica(settings: EngineSettings, plan: Plan, model: Model, node: Node, groups: Groups) -> Replica:
    """Build a node on this rank, without values; every rank of its stage calls it."""
    world, layout, section = groups.world, plan.layouts[node.module], model.section
    parts = parts_of(model)
    start, stop = plan.splits[node.module][node.stage]
    how = _parallelism(settings, plan, section, node)
    with torch.device("meta"):
        chain = build_chain(parts[start:stop]).to(dtype_of(how.precision.parameters))
    if node.stage == layout.stages - 1:
        _add_losses(chain, settings, node.module)
    made = parallelize(chain, layout, groups, how)
    _add_terms(chain, settings, node.module)
    tie = plan.tie(node.module, world.rank)
    parameters, rounded = [], copies_of(chain)
    for name, parameter in chain.named_parameters():
        share = made.shares[name]
        block = share.block
        copies = len(tie) if tie and block.name == EMBEDDING else 1
        parameters.append(
            LocalParameter(node.module, block, parameter, share.copies * copies, share.everywhere, rounded.get(name))
        )
    buffers = tuple(LocalBuffer(node.module, name, buffer) for name, buffer in chain.named_buffers())
    coordinate = layout.coordinate(world.rank)
    is_loss = node.module == plan.sink and node.stage == layout.stages - 1
    stage = Stage(
        node,
        chain,
        is_loss,
        counts_loss=is_loss and coordinate.tp == 0,
        weights=made.weights,
        results=chain.results,
    )
    tie_group = groups.collective(tie) if tie else None
    return Replica(chain, stage, tuple(parameters), buffers, made.tensor_group, tie_group)


def fill_replica(settings: EngineSettings, plan: Plan, model: Model, replica: Replica) -> None:
    """Give a node's parameters and buffers their initial values, which no layout changes."""
    initial, given = initial_of(model.section), family_of(model.section).given(model.section)
    for one in replica.parameters:
        # A copy of the embedding has the name of the embedding, hence the same initial values.
        initialize_(one.value, one.block, settings.seed, one.module, plan.facts[one.module].residual_sums, initial)
        fill_given_(one.value, one.block, given)
    for buffer in replica.buffers:
        initialize_buffer_(buffer.value, buffer.name)


def _add_losses(chain: Chain, settings: EngineSettings, module: str) -> None:
    """Attach the losses of item rows to the chain."""
    for section, kind in item_losses(settings.losses[module]):
        chain.compare(section.kind, kind.build(section))


def _add_terms(chain: Chain, settings: EngineSettings, module: str) -> None:
    """Add the loss terms of scores to the head, if it is in this chain."""
    terms = tuple(kind.build(section) for section, kind in score_losses(settings.losses[module]))
    for loss in chain.modules():
        if isinstance(loss, LinearLoss):
            loss.terms = terms


def _parallelism(settings: EngineSettings, plan: Plan, section: ModelSection, node: Node) -> Parallelism:
    return Parallelism(
        precision=settings.training.precision,
        rules=rules_of(section),
        train=settings.train[node.module],
        known_as=_known_as(plan.facts[node.module].is_tied),
        has_experts=plan.has_experts(node),
        overlaps=settings.training.tp_overlap,
        compiles=settings.is_compiled,
        recomputed=plan.recomputed[node.module],
        activations=plan.activations[node.module],
        defers_weights=_splits(plan, node),
    )


def _known_as(is_tied: bool) -> dict[str, str]:
    """Other names of the embedding in later stages, mapped to its own."""
    return {WORDS_COPY: EMBEDDING} | ({TIED_HEAD: EMBEDDING} if is_tied else {})


def _splits(plan: Plan, node: Node) -> bool:
    """Whether the schedule computes a node's weight gradients in separate actions."""
    return any(isinstance(a, Compute) and a.node == node and a.work is Work.WEIGHT for a in plan.schedule.order)
