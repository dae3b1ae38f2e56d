"""Token dispatch among ranks: each row travels once to every rank that holds experts of it, and one row returns.

A rank computes all experts that it has of an arrived row and returns their weighted sum; the row's owner sums what
ranks return. With experts cut in width a row goes to all etp ranks, whose partial sums add up in the same way.

An exchange begins and ends at two places of the graph, so that it overlaps with what is computed between them. On GPUs
it has a stream of its own, which waits for what the exchange reads and not for what is launched meanwhile.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from counterpoint.models.permute import NOWHERE, Order, copy_rows, sort_slots, sum_rows
from counterpoint.models.seams import Arrived, Dispatch, DispatchState, Fusible

Ends = Callable[[], Tensor]
"""Ends an exchange and returns what has arrived."""


class Sizes(ABC):
    """What an exchange needs to know on the host."""

    @abstractmethod
    def read(self) -> tuple[list[int], list[int], int]:
        """The rows that leave for each rank, those that arrive from each, and at least as many choices of local experts
        as there are among these."""


@final
@dataclass(frozen=True, slots=True)
class ToldSizes(Sizes):
    """Sizes that the ranks have told each other: `values` int64 are valid once `known` has happened."""

    values: Tensor
    known: torch.cuda.Event | None

    def read(self) -> tuple[list[int], list[int], int]:
        if self.known is not None:
            self.known.synchronize()
        *rows, choices = self.values.tolist()
        half = len(rows) // 2
        return rows[:half], rows[half:], choices


@final
@dataclass(frozen=True, slots=True)
class EvenSizes(Sizes):
    """All of the `rows` rows of each rank go to all ranks, so a GPU need not be waited for; `counts` int64 (local
    experts,) are the choices, at most `top_k` of each row that arrives."""

    ranks: int
    rows: int
    top_k: int
    counts: Tensor

    def read(self) -> tuple[list[int], list[int], int]:
        each = [self.rows] * self.ranks
        most = self.ranks * self.rows * min(self.top_k, self.counts.shape[0])
        return each, each, most if self.counts.is_cuda else int(self.counts.sum())


@dataclass(frozen=True, slots=True)
class _ExchangeState(DispatchState):
    """The choices `experts` of this rank's rows, the order by rank in which their rows leave, and the sizes; `rows` are
    this rank's rows, routed or not."""

    experts: Tensor
    order: Order
    sizes: Sizes
    rows: int


_TO_ALL = 2
"""Highest ep with which all rows go to all ranks. Of rows with six choices among 32 experts 99 % do so with 2, but 85 %
with 4, and memory is taken for every choice of every row, which is ep times what is used."""

_KEPT = 8
"""Orders to all ranks that are kept, by their rows."""


@final
class ExpertDispatch(Dispatch, Fusible):
    """`Dispatch` among the ep x etp ranks of a line, etp innermost; every rank joins, with rows or without."""

    regions = ("address",)

    def __init__(self, line: "Line", ep: int, etp: int, ep_rank: int) -> None:
        super().__init__()
        self.line, self.ep, self.etp, self.ep_rank = line, ep, etp, ep_rank
        self._orders: dict[int, Order] = {}

    def announce(self, experts: Tensor, counts: Tensor, rows: int, *, is_even: bool) -> DispatchState:
        """Sort the rows by the ranks that they go to, and tell those how many come, and how many for each expert.

        With few ranks almost every row goes to all of them. If these have the same number of rows, all rows do, and
        nobody waits to be told.
        """
        if is_even and self.ep <= _TO_ALL:
            arriving = self.line.tell_choices(counts.view(self.ep, -1).repeat_interleave(self.etp, dim=0))
            sizes: Sizes = EvenSizes(self.ep * self.etp, rows, experts.shape[1], arriving)
            return _ExchangeState(arriving, experts, self._to_all(rows, experts.device), sizes, rows)
        keys, leaving = self.address(experts, counts)
        order = sort_slots(keys, leaving.shape[0])
        arriving, sizes = self.line.tell(leaving)
        return _ExchangeState(arriving, experts, order, sizes, rows)

    def _to_all(self, rows: int, device: torch.device) -> Order:
        """The order in which each row goes to every rank."""
        if (known := self._orders.get(rows)) is None:
            ranks = self.ep * self.etp
            slots = torch.arange(rows * ranks, dtype=torch.int32, device=device).view(rows, ranks)
            places = torch.arange(rows * ranks, dtype=torch.int32, device=device).view(ranks, rows).t()
            known = self._orders[rows] = Order(slots.t().flatten(), places.contiguous())
            while len(self._orders) > _KEPT:
                self._orders.pop(next(iter(self._orders)))
        return known

    def address(self, experts: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The ranks that rows go to, int32 (rows, ranks), NOWHERE for others; and by rank, int64 (ranks, 1 + local
        experts), the number of rows and the choices of each of its experts."""
        ranks = torch.arange(self.ep * self.etp, dtype=torch.int32, device=experts.device).view(self.ep, self.etp)
        owners = torch.arange(self.ep, device=experts.device)
        goes = (experts[:, :, None] // (counts.shape[0] // self.ep) == owners).any(dim=1)
        leaving = torch.cat((goes.sum(dim=0)[:, None], counts.view(self.ep, -1)), dim=1)
        to_etp_ranks = leaving[:, None].expand(-1, self.etp, -1).flatten(0, 1)
        return torch.where(goes[:, :, None], ranks, NOWHERE).flatten(1), to_etp_ranks

    def send(self, rows: Tensor, weights: Tensor, state: DispatchState) -> Callable[[], Arrived]:
        assert isinstance(state, _ExchangeState), "the state comes from this class"
        trip = _Sending(self.line, state, self.ep_rank * state.counts.shape[0])
        token = _begin(trip, rows, weights)

        def end() -> Arrived:
            arrived, its_weights, entries, places = _end(trip, token)
            return Arrived(arrived, its_weights, Order(entries, places))

        return end

    def combine(self, rows: Tensor, state: DispatchState) -> Callable[[], Tensor]:
        assert isinstance(state, _ExchangeState), "the state comes from this class"
        trip = _Returning(self.line, state)
        token = _begin(trip, rows)
        return lambda: _end(trip, token)[0]


@final
class Line:
    """All-to-all exchanges of a group, one after the other."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group
        self._stream: torch.cuda.Stream | None = None

    def tell(self, leaving: Tensor) -> tuple[Tensor, Sizes]:
        """Send int64 (ranks, 1 + experts), rows and choices of each expert, to the ranks; returns the choices that
        arrive of each expert, valid on the device after the next exchange has ended, and the sizes for the host."""
        leaving = leaving.contiguous()
        if not leaving.is_cuda:
            table = self._exchanged(leaving)
            return table[:, 1:].sum(dim=0), ToldSizes(_sizes(leaving, table), None)
        stream = self._of_exchanges()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            table = self._exchanged(leaving)
            counts, values = table[:, 1:].sum(dim=0), _sizes(leaving, table)
            on_host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            on_host.copy_(values, non_blocking=True)
            known = stream.record_event()
        leaving.record_stream(stream)
        counts.record_stream(torch.cuda.current_stream())
        return counts, ToldSizes(on_host, known)

    def tell_choices(self, leaving: Tensor) -> Tensor:
        """Tell ranks how often each of their experts is chosen, int64 (ranks, experts); returns what arrives here,
        as `tell` does."""
        leaving = leaving.contiguous()
        if not leaving.is_cuda:
            return self._exchanged(leaving).sum(dim=0)
        stream = self._of_exchanges()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            counts = self._exchanged(leaving).sum(dim=0)
        leaving.record_stream(stream)
        counts.record_stream(torch.cuda.current_stream())
        return counts

    def _exchanged(self, leaving: Tensor) -> Tensor:
        table = torch.empty_like(leaving)
        dist.all_to_all_single(table, leaving, group=self.group)
        return table

    def mark(self, rows: Tensor) -> torch.cuda.Event | None:
        """A point after which an exchange that reads these rows may begin; None on a CPU."""
        return torch.cuda.current_stream().record_event() if rows.is_cuda else None

    def begin(
        self,
        pack: Callable[[], Tensor],
        read: Sequence[Tensor],
        give: list[int],
        take: list[int],
        after: torch.cuda.Event | None,
    ) -> Ends:
        """Begin to exchange the rows that `pack` makes of tensors that it `read`s: give[i] go to rank i, take[i] come
        from it. On a GPU it waits for `after` only."""
        if after is None:
            rows = pack()
            out = rows.new_empty((sum(take), rows.shape[1]))
            work = dist.all_to_all_single(out, rows, take, give, group=self.group, async_op=True)

            def end() -> Tensor:
                work.wait()
                return out

            return end
        stream = self._of_exchanges()
        stream.wait_event(after)
        with torch.cuda.stream(stream):
            rows = pack()
            out = rows.new_empty((sum(take), rows.shape[1]))
            dist.all_to_all_single(out, rows, take, give, group=self.group)
            arrived = stream.record_event()
        for tensor in read:
            tensor.record_stream(stream)

        def end_on_device() -> Tensor:
            current = torch.cuda.current_stream()
            current.wait_event(arrived)
            out.record_stream(current)
            return out

        return end_on_device

    def _of_exchanges(self) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream(priority=-1)  # type: ignore[no-untyped-call]
        return self._stream


def _sizes(leaving: Tensor, arriving: Tensor) -> Tensor:
    """Rows that leave for each rank, rows that arrive from each, and the choices that arrive."""
    return torch.cat((leaving[:, 0], arriving[:, 0], arriving[:, 1:].sum()[None]))


class _Trip(ABC):
    """An exchange between two places of the graph, and in backward the exchange of gradients between the same places.

    Tensors pass through the object, so the graph has an edge without rows from one place to the other.
    """

    @abstractmethod
    def begin(self, *tensors: Tensor) -> None:
        """At the first place, in forward."""

    @abstractmethod
    def end(self) -> tuple[Tensor, ...]:
        """At the second place, in forward: what arrives; integers have no gradient."""

    @abstractmethod
    def begin_back(self, *gradients: Tensor) -> None:
        """At the second place, in backward."""

    @abstractmethod
    def end_back(self) -> tuple[Tensor, ...]:
        """At the first place, in backward: the gradients of what `begin` was given."""


@final
class _Begin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, trip: _Trip, *tensors: Tensor) -> Tensor:
        ctx.trip = trip
        trip.begin(*tensors)
        return tensors[0].new_empty(0)

    @staticmethod
    def backward(ctx: Any, *_token: Tensor) -> tuple[Tensor | None, ...]:
        return None, *ctx.trip.end_back()


@final
class _End(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, trip: _Trip, _token: Tensor) -> tuple[Tensor, ...]:
        ctx.trip = trip
        out = trip.end()
        ctx.mark_non_differentiable(*(tensor for tensor in out if not tensor.is_floating_point()))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        ctx.trip.begin_back(*gradients)
        return None, gradients[0].new_empty(0)


def _begin(trip: _Trip, *tensors: Tensor) -> Tensor:
    token: Tensor = _Begin.apply(trip, *tensors)  # type: ignore[no-untyped-call]
    return token


def _end(trip: _Trip, token: Tensor) -> tuple[Tensor, ...]:
    out: tuple[Tensor, ...] = _End.apply(trip, token)  # type: ignore[no-untyped-call]
    return out


@final
class _Sending(_Trip):
    """Rows, weights and choices go to the ranks of the experts, of which this one's are numbered from `first`.

    In forward all happens at the end: what is computed before has been launched when the host waits for the sizes, and
    the exchange does not wait for it.
    """

    def __init__(self, line: Line, state: _ExchangeState, first: int) -> None:
        self._line, self._state, self._first = line, state, first
        self._given: tuple[Tensor, Tensor] | None = None
        self._mark: torch.cuda.Event | None = None
        self._under_way: tuple[Ends, Ends] | None = None

    def begin(self, *tensors: Tensor) -> None:
        rows, weights = tensors
        self._given, self._mark = (rows, weights), self._line.mark(rows)

    def end(self) -> tuple[Tensor, ...]:
        assert self._given is not None, "begin comes first"
        (rows, weights), self._given = self._given, None
        experts, top_k = self._state.experts, weights.shape[1]
        give, take, choices = self._state.sizes.read()
        order = self._state.order.of(sum(give), self._state.rows)
        slots = order.places.shape[1]

        def pack_choices() -> Tensor:
            # Numbers of experts are exact in float32. They come first, so they are sorted while the rows travel.
            choices = torch.cat((weights, experts.to(weights.dtype)), dim=1)
            unrouted = self._state.order.places.shape[0] - choices.shape[0]
            choices = F.pad(choices, (0, 0, 0, unrouted), value=NOWHERE) if unrouted else choices
            return copy_rows(choices, order.entries, slots)

        def pack_rows() -> Tensor:
            return copy_rows(rows, order.entries, slots)

        end_of_choices = self._line.begin(pack_choices, (weights, experts, order.entries), give, take, self._mark)
        end_of_rows = self._line.begin(pack_rows, (rows,), give, take, self._mark)
        of_choices = end_of_choices()
        keys = of_choices[:, top_k:].to(torch.int32) - self._first
        entries, places = sort_slots(keys, self._state.counts.shape[0]).of(choices, keys.shape[0])
        return end_of_rows(), of_choices[:, :top_k].contiguous(), entries, places

    def begin_back(self, *gradients: Tensor) -> None:
        of_rows, of_weights, *_integers = gradients
        self._under_way = (self._back(of_weights), self._back(of_rows))

    def end_back(self) -> tuple[Tensor, ...]:
        assert self._under_way is not None, "backward reaches the end first"
        (end_of_weights, end_of_rows), self._under_way = self._under_way, None
        places = self._state.order.places
        of_weights = sum_rows(end_of_weights(), places)[: self._state.experts.shape[0]]
        # Rows that are not routed have no gradient from here.
        order = self._state.order.of(0, self._state.rows)
        return sum_rows(end_of_rows(), order.places), of_weights

    def _back(self, gradient: Tensor) -> Ends:
        give, take, _choices = self._state.sizes.read()
        gradient = gradient.contiguous()
        return self._line.begin(lambda: gradient, (gradient,), take, give, self._line.mark(gradient))


@final
class _Returning(_Trip):
    """One row for each that arrived returns to its owner, which sums them."""

    def __init__(self, line: Line, state: _ExchangeState) -> None:
        self._line, self._state = line, state
        self._give, self._take, _choices = state.sizes.read()
        self._order = state.order.of(sum(self._give), state.rows)
        self._under_way: Ends | None = None

    def begin(self, *tensors: Tensor) -> None:
        (rows,) = tensors
        rows = rows.contiguous()
        self._under_way = self._line.begin(lambda: rows, (rows,), self._take, self._give, self._line.mark(rows))

    def end(self) -> tuple[Tensor, ...]:
        return (sum_rows(self._arrived(), self._order.places),)

    def begin_back(self, *gradients: Tensor) -> None:
        (gradient,) = gradients
        entries, places = self._order

        def pack() -> Tensor:
            return copy_rows(gradient, entries, places.shape[1])

        mark = self._line.mark(gradient)
        self._under_way = self._line.begin(pack, (gradient, entries), self._give, self._take, mark)

    def end_back(self) -> tuple[Tensor, ...]:
        return (self._arrived(),)

    def _arrived(self) -> Tensor:
        assert self._under_way is not None, "an exchange begins before it ends"
        end, self._under_way = self._under_way, None
        return end()
