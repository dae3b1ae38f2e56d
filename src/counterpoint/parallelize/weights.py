"""Weight gradients apart from the rest of backward (Qi et al., 2024, arXiv:2401.10241).

An input action computes the gradients that others wait for and puts those of weights into a queue; a weight action
computes them later, without a collective and without the weights themselves. Deferred are the gradients of weights,
biases and tables. Small vectors inside other operations (norm gains, Mamba's convolutions and dynamics) get their
gradients in the input action.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from counterpoint.models.multiply import (
    AddBias,
    GroupedMultiply,
    Groups,
    Multiply,
    ReadTable,
    grouped_product,
    grouped_weight_gradient,
)
from counterpoint.models.seams import OffersWeight
from counterpoint.parallelize.fsdp import GradientHome


@dataclass(frozen=True, slots=True)
class _Pending:
    """A weight as forward saw it, and the function that computes its gradient."""

    weight: Tensor
    gradient: Callable[[], Tensor]


@final
class WeightWork:
    """The weight gradients that one input action deferred, with the rows and gradients that they need."""

    def __init__(self, pending: list[_Pending], home: GradientHome) -> None:
        self._pending, self._home = pending, home

    def run(self) -> None:
        """Add each gradient to those that will be reduced, and free what it needed; may be called once."""
        with torch.no_grad():
            while self._pending:
                pending = self._pending.pop()
                self._home.add(pending.weight, pending.gradient())


@final
class WeightQueue:
    """Defers weight gradients of a chain's backward while it is `collecting`; otherwise they are computed at once."""

    def __init__(self, home: GradientHome) -> None:
        self._home = home
        self._collecting = False
        self._pending: list[_Pending] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Backwards in this context are input actions."""
        assert not self._pending, "what an input action left is taken before the next one"
        self._collecting = True
        try:
            yield
        finally:
            self._collecting = False

    def take(self) -> WeightWork:
        """The work deferred since the last call."""
        pending, self._pending = self._pending, []
        return WeightWork(pending, self._home)

    def offer(self, weight: Tensor, gradient: Callable[[], Tensor]) -> Tensor | None:
        """The gradient, or None if it is deferred to a weight action."""
        if not self._collecting:
            return gradient()
        self._pending.append(_Pending(weight, gradient))
        return None


def defer_weights(chain: nn.Module) -> WeightQueue:
    """Make every product of a chain defer its weight gradient while the queue collects, in place.

    Weights that need no gradient are not queued.
    """
    queue = WeightQueue(GradientHome(chain))
    for name, module in list(chain.named_modules()):
        if type(module) in _DEFERRED:
            chain.set_submodule(name, _Deferred(_DEFERRED[type(module)], queue))
        elif isinstance(module, OffersWeight):
            module.offer = queue.offer
    return queue


@final
class _Deferred(nn.Module):
    """An operation of `models/multiply.py` whose weight gradients go to the queue."""

    def __init__(self, operation: type[torch.autograd.Function], queue: WeightQueue) -> None:
        super().__init__()
        self.operation = operation
        self.queue = queue

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, *inputs: Tensor | Groups | None) -> Tensor:
        out: Tensor = self.operation.apply(*inputs, self.queue)  # type: ignore[no-untyped-call]
        return out


# The operations hold the weight itself beside the saved tensors: recomputation saves a detached copy of it.


@final
class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, queue: WeightQueue) -> Tensor:
        ctx.weight, ctx.bias, ctx.queue = weight, bias, queue
        of_rows, of_weight, *_others = ctx.needs_input_grad
        ctx.save_for_backward(rows if of_weight else None, weight if of_rows else None)
        return F.linear(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, weight = ctx.saved_tensors
        of_rows = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_rows = gradient @ weight
        if ctx.needs_input_grad[1]:
            of_weight = ctx.queue.offer(ctx.weight, partial(torch.mm, gradient.t(), rows.detach()))
        if ctx.needs_input_grad[2]:
            of_bias = ctx.queue.offer(ctx.bias, partial(torch.sum, gradient, dim=0))
        return of_rows, of_weight, of_bias, None


@final
class _GroupedMultiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weights: Tensor, groups: Groups, queue: WeightQueue) -> Tensor:
        ctx.weights, ctx.groups, ctx.queue = weights, groups, queue
        of_rows, of_weights, *_others = ctx.needs_input_grad
        ctx.save_for_backward(rows if of_weights else None, weights if of_rows else None)
        return grouped_product(rows, weights, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        rows, weights = ctx.saved_tensors
        of_rows = of_weights = None
        if ctx.needs_input_grad[0]:
            of_rows = grouped_product(gradient, weights.transpose(1, 2), ctx.groups)
        if ctx.needs_input_grad[1]:
            compute = partial(grouped_weight_gradient, gradient, rows.detach(), ctx.groups)
            of_weights = ctx.queue.offer(ctx.weights, compute)
        return of_rows, of_weights, None, None


@final
class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, bias: Tensor, queue: WeightQueue) -> Tensor:
        ctx.bias, ctx.queue = bias, queue
        return rows + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        of_bias = None
        if ctx.needs_input_grad[1]:
            of_bias = ctx.queue.offer(ctx.bias, partial(torch.sum, gradient, dim=0))
        return gradient, of_bias, None


@final
class _ReadTable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor, queue: WeightQueue) -> Tensor:
        ctx.table, ctx.queue = table, queue
        ctx.save_for_backward(places)
        return F.embedding(places, table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        compute = partial(_table_gradient, gradients[0], places, ctx.table.shape[0])
        return ctx.queue.offer(ctx.table, compute), None, None


def _table_gradient(gradient: Tensor, places: Tensor, entries: int) -> Tensor:
    # The kernel of autograd's own backward: adding row by row with index_add has no fixed order on a GPU.
    of_table: Tensor = torch.ops.aten.embedding_dense_backward(gradient, places, entries, -1, False)
    return of_table


_DEFERRED: dict[type[nn.Module], type[torch.autograd.Function]] = {
    Multiply: _Multiply,
    GroupedMultiply: _GroupedMultiply,
    AddBias: _AddBias,
    ReadTable: _ReadTable,
}
