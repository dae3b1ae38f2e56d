"""Token dispatch in a process that holds all experts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoint.models.permute import Order, sort_slots
from counterpoint.models.seams import Arrived, Dispatch, DispatchState


@dataclass(frozen=True, slots=True)
class _LocalState(DispatchState):
    """`order` sorts the choices by expert."""

    order: Order


@final
class LocalDispatch(Dispatch):
    """A dispatch without communication."""

    def announce(self, experts: Tensor, counts: Tensor, rows: int, *, is_even: bool) -> DispatchState:  # noqa: ARG002
        order = sort_slots(experts.to(torch.int32), counts.shape[0])
        return _LocalState(counts, order.of(experts.numel(), rows))

    def send(self, rows: Tensor, weights: Tensor, state: DispatchState) -> Callable[[], Arrived]:
        assert isinstance(state, _LocalState), "the state comes from this class"
        arrived = Arrived(rows, weights, state.order)
        return lambda: arrived

    def combine(self, rows: Tensor, state: DispatchState) -> Callable[[], Tensor]:  # noqa: ARG002
        return lambda: rows
