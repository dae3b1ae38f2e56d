"""Expert parallelism: token dispatch to the ranks that hold the rows' experts, and the combination of their outputs.

A stage's rows are cut over all of its ranks, and so may its experts be: each of ep ranks holds a share of the experts,
each of etp ranks a share of every expert's width. Rows are copied to all etp ranks; their owner sums the partial
outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from counterpoint.errors import PlacementError
from counterpoint.models.chain import Chain
from counterpoint.models.seams import Dispatch, DispatchState, LaneSum, LocalDispatch, OwnDocuments, StackedExperts
from counterpoint.parallelize.blocks import Cut
from counterpoint.parallelize.exchange import RowExchange, TensorGroup


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
        makers[LocalDispatch] = lambda: ExpertDispatch(group, place.ep, place.etp)
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


@dataclass(frozen=True, slots=True)
class _ExchangeState(DispatchState):
    """Row counts of a dispatch, int64: `table` (ranks, local experts) of the rows that each rank sends to each expert,
    `leaving` (ep,) of the rows sent to each ep rank; the same on the CPU, valid once `arrived` has happened."""

    table: Tensor
    leaving: Tensor
    host_table: Tensor
    host_leaving: Tensor
    arrived: torch.cuda.Event | None

    @property
    def rows(self) -> int:
        """Number of rows that leave, each counted once."""
        return int(self.host_leaving.sum())


@final
class ExpertDispatch(Dispatch):
    """`Dispatch` among the ep x etp ranks of `group`, etp innermost; every rank joins, with rows or without."""

    def __init__(self, group: dist.ProcessGroup, ep: int, etp: int) -> None:
        super().__init__()
        self.group, self.ep, self.etp = group, ep, etp

    def announce(self, counts: Tensor) -> DispatchState:
        """Tell every rank how many rows its experts get from here, and begin to copy the counts to the host."""
        per_rank = counts.view(self.ep, 1, -1).expand(-1, self.etp, -1).flatten(0, 1).contiguous()
        table = torch.empty_like(per_rank)
        dist.all_to_all_single(table, per_rank, group=self.group)
        leaving = counts.view(self.ep, -1).sum(dim=1)
        host_table, _first = _to_host(table)
        host_leaving, arrived = _to_host(leaving)
        return _ExchangeState(table.sum(dim=0), table, leaving, host_table, host_leaving, arrived)

    def send(self, rows: Tensor, state: DispatchState) -> Tensor:
        """Send rows (rows, hidden) sorted by expert; returns the rows of the local experts, sorted by expert."""
        exchange = self._on_host(state)
        copied = rows if self.etp == 1 else rows.index_select(0, _copies(exchange.leaving, self.etp, exchange.rows))
        arrived: Tensor = self._exchange(exchange, outward=True)(copied)
        return arrived.index_select(0, _by_expert(exchange.table, arrived.shape[0]))

    def combine(self, rows: Tensor, state: DispatchState) -> Tensor:
        """Return outputs (rows, hidden) of the local experts to their rows' owners, summed over etp ranks."""
        exchange = self._on_host(state)
        order = _by_expert(exchange.table, rows.shape[0])
        by_rank = rows.new_empty(rows.shape).index_copy(0, order, rows)
        returned: Tensor = self._exchange(exchange, outward=False)(by_rank)
        if self.etp == 1:
            return returned
        sums = rows.new_zeros((exchange.rows, rows.shape[1]))
        return sums.index_add(0, _copies(exchange.leaving, self.etp, exchange.rows), returned)

    def _on_host(self, state: DispatchState) -> _ExchangeState:
        assert isinstance(state, _ExchangeState), "the state comes from this class"
        if state.arrived is not None:
            state.arrived.synchronize()
        return state

    def _exchange(self, exchange: _ExchangeState, outward: bool) -> RowExchange:
        sent = [n for n in exchange.host_leaving.tolist() for _ in range(self.etp)]
        received = exchange.host_table.sum(dim=1).tolist()

        def travel(rows: Tensor, give: list[int], take: list[int]) -> Tensor:
            out = rows.new_empty((sum(take), *rows.shape[1:]))
            dist.all_to_all_single(out, rows.contiguous(), take, give, group=self.group)
            return out

        def out(rows: Tensor) -> Tensor:
            return travel(rows, sent, received)

        def back(rows: Tensor) -> Tensor:
            return travel(rows, received, sent)

        return RowExchange(out, back) if outward else RowExchange(back, out)


def _by_expert(table: Tensor, rows: int) -> Tensor:
    """Indices that sort the `rows` arrived rows, which are sorted by rank and then expert, by expert.

    `rows` is the sum of the table, given so that the host does not wait for the device.
    """
    ranks, experts = table.shape
    expert = torch.arange(experts, device=table.device).repeat(ranks)
    return expert.repeat_interleave(table.flatten(), output_size=rows).sort(stable=True).indices


def _copies(leaving: Tensor, etp: int, rows: int) -> Tensor:
    """Indices into `rows` rows of the rows to send: those of every ep rank, repeated for each etp rank."""
    pieces = leaving.repeat_interleave(etp, output_size=leaving.shape[0] * etp)
    first = (leaving.cumsum(0) - leaving).repeat_interleave(etp, output_size=pieces.shape[0])
    shift = (first - (pieces.cumsum(0) - pieces)).repeat_interleave(pieces, output_size=rows * etp)
    return torch.arange(rows * etp, device=leaving.device) + shift


def _to_host(tensor: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy on the CPU, and the event that says when it is there; on the CPU it is there at once."""
    if not tensor.is_cuda:
        return tensor, None
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    return host, arrived
