"""Expert parallelism: a rank's share of the experts, and token dispatch to the ranks that hold the rows' experts.

A stage's rows are cut over all of its ranks, and so may its experts be: each of ep ranks holds a share of the experts,
each of etp ranks a share of every expert's width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from counterpoint.errors import PlacementError
from counterpoint.models.chain import Chain
from counterpoint.models.dispatch import LocalDispatch
from counterpoint.models.seams import LaneSum, OwnDocuments, StackedExperts
from counterpoint.parallelize.blocks import Cut
from counterpoint.parallelize.dispatch import ExpertDispatch, Line
from counterpoint.parallelize.exchange import TensorGroup


@dataclass(frozen=True, slots=True)
class ExpertRank:
    """A rank's place in the expert view; `group` is that of all ep x etp ranks, None for a single rank."""

    group: dist.ProcessGroup | None
    ep_rank: int
    ep: int
    etp_rank: int
    etp: int


@dataclass(frozen=True, slots=True)
class ExpertSharding:
    """The global shape of a stacked weight, and how the expert view cuts it."""

    global_shape: tuple[int, ...]
    cuts: tuple[Cut, ...]

    @property
    def local_shape(self) -> tuple[int, ...]:
        """The shape on each rank, before FSDP cuts it."""
        shape = list(self.global_shape)
        for cut in self.cuts:
            shape[cut.dim] //= cut.count
        return tuple(shape)

    def cuts_of(self, ep_rank: int, etp_rank: int) -> tuple[Cut, ...]:
        """The cuts of the rank at these places of the expert view."""
        return tuple(replace(cut, index=index) for cut, index in zip(self.cuts, (ep_rank, etp_rank), strict=True))


def apply_expert_parallel(chain: Chain, place: ExpertRank, lane: TensorGroup | None) -> dict[str, ExpertSharding]:
    """Cut the experts of a chain on the meta device down to one rank's share, in place; returns their shardings.

    `lane` is the rank among those that hold rows of its lane, None if it holds all of them. Raises PlacementError
    for experts or widths that the degrees do not divide.
    """
    shardings: dict[str, ExpertSharding] = {}
    makers = _exchange_makers(place, lane)
    for name, module in list(chain.named_modules()):
        if isinstance(module, StackedExperts):
            shardings |= _cut_experts(name, module, place)
        elif type(module) in makers:
            chain.set_submodule(name, makers[type(module)]())
    return shardings


def _cut_experts(name: str, experts: StackedExperts, place: ExpertRank) -> Mapping[str, ExpertSharding]:
    shardings = {}
    for leaf, whole in list(experts.named_parameters()):
        shape = tuple(whole.shape)
        cuts = (Cut(0, place.ep_rank, place.ep), Cut(experts.width_dims[leaf], place.etp_rank, place.etp))
        for cut, what, axis in zip(cuts, ("experts", "columns"), ("ep", "etp"), strict=True):
            if shape[cut.dim] % cut.count:
                raise PlacementError(
                    f"parameter {name}.{leaf} has {shape[cut.dim]} {what}, expected a multiple of {axis} "
                    f"({cut.count}); change the model's moe section or {axis}"
                )
        assert whole.is_meta, "parameters are cut before they have values"
        sharding = ExpertSharding(shape, cuts)
        piece = torch.empty(sharding.local_shape, dtype=whole.dtype, device=whole.device)
        experts.register_parameter(leaf, nn.Parameter(piece, requires_grad=whole.requires_grad))
        shardings[f"{name}.{leaf}"] = sharding
    return shardings


def _exchange_makers(place: ExpertRank, lane: TensorGroup | None) -> dict[type[nn.Module], Callable[[], nn.Module]]:
    """Replacements for the seams of a mixture; on a single rank the seams stay as they are."""
    makers: dict[type[nn.Module], Callable[[], nn.Module]] = {}
    if (group := place.group) is not None:
        # One for all layers: memory that one layer's exchanges have freed is taken by the next one's.
        line = Line(group)
        makers[LocalDispatch] = lambda: ExpertDispatch(line, place.ep, place.etp, place.ep_rank)
    if lane is not None:
        makers |= {OwnDocuments: lambda: ShareOfDocuments(lane), LaneSum: lambda: SumOverLane(lane)}
    return makers


@final
class ShareOfDocuments(nn.Module):
    """The document numbers (rows,) of this rank's rows; padding has none."""

    def __init__(self, lane: TensorGroup) -> None:
        super().__init__()
        self.lane = lane

    def forward(self, document: Tensor, rows: int) -> Tensor:
        return document[self.lane.rank * rows : (self.lane.rank + 1) * rows]


@final
class SumOverLane(nn.Module):
    """Counts summed over the ranks of a lane."""

    def __init__(self, lane: TensorGroup) -> None:
        super().__init__()
        self.lane = lane

    def forward(self, counts: Tensor) -> Tensor:
        return self.lane.all_reduce(counts)
