"""The products at both ends of a sublayer, together with the exchange of their rows over tensor-parallel ranks.

Gathered rows are multiplied as they arrive, and rows that are summed over ranks leave as they are made; backwards the
same with the roles exchanged, and weight gradients are computed while rows travel. These are operations of their own,
so that a compiler neither looks into them nor breaks its graph at them.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, final
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from counterpoint.models.linear import Linear
from counterpoint.models.multiply import Multiply
from counterpoint.parallelize.exchange import EnterExchange, LeaveExchange, RowExchange, TensorGroup
from counterpoint.parallelize.transport import Travel

_NUMBERS = count()
_TRAVELS: WeakValueDictionary[str, Travel] = WeakValueDictionary()
"""How an operation, which is given names and tensors, finds the way of its rows."""


def travel_of(ranks: TensorGroup, *, overlap: bool = True) -> Travel:
    """The way of rows between the ranks of a group, for all modules that exchange rows there."""
    # The same for all chains of a module: a group has its memory once, and a compiler sees one name.
    for known in _TRAVELS.values():
        if known.ranks == ranks and known.overlap is overlap:
            return known
    travel = Travel(ranks, f"travel {next(_NUMBERS)}", overlap=overlap)
    _TRAVELS[travel.name] = travel
    return travel


@final
class GatheredProducts(EnterExchange):
    """The rows of all ranks, and the products of linears with them; gradients of rows are summed over ranks."""

    def __init__(self, ranks: TensorGroup, travel: Travel) -> None:
        super().__init__(RowExchange(ranks.all_gather, ranks.reduce_scatter))
        self.travel = travel

    def products(self, rows: Tensor, *linears: nn.Module) -> tuple[Tensor, ...]:
        if not all(isinstance(linear, Linear) and type(linear.multiply) is Multiply for linear in linears):
            return super().products(rows, *linears)
        _gathered, *products = _enter(rows, [linear.weight for linear in linears], self.travel.name)
        biases = (linear.bias for linear in linears)
        return tuple(rows if bias is None else rows + bias for rows, bias in zip(products, biases, strict=True))


@final
class ScatteredProduct(LeaveExchange):
    """This rank's share of a product that is summed over ranks; gradients of rows are gathered."""

    def __init__(self, ranks: TensorGroup, travel: Travel) -> None:
        super().__init__(RowExchange(ranks.reduce_scatter, ranks.all_gather))
        self.travel = travel

    def product(self, rows: Tensor, weight: Tensor, multiply: nn.Module) -> Tensor:
        if type(multiply) is not Multiply:
            return super().product(rows, weight, multiply)
        left: Tensor = _leave(rows, weight, self.travel.name)
        return left


@torch.library.custom_op("counterpoint::gathered_products", mutates_args=())
def _enter(shard: Tensor, weights: Sequence[Tensor], travel: str) -> list[Tensor]:
    """The shards (rows, inputs) of all ranks, and their products with weights (outputs, inputs)."""
    way = _TRAVELS[travel]
    gathered = _whole(shard, shard.shape[1], way.size)
    products = [_whole(shard, weight.shape[0], way.size) for weight in weights]
    for span, rows in way.of(shard).arriving(shard, gathered):
        for weight, product in zip(weights, products, strict=True):
            torch.mm(rows, weight.t(), out=product[span])
    return [gathered, *products]


@_enter.register_fake
def _(shard: Tensor, weights: Sequence[Tensor], travel: str) -> list[Tensor]:
    size = _TRAVELS[travel].size
    return [_whole(shard, width, size) for width in (shard.shape[1], *(weight.shape[0] for weight in weights))]


@torch.library.custom_op("counterpoint::gathered_products_backward", mutates_args=())
def _enter_backward(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], gathered: Tensor, travel: str, needs: Sequence[bool]
) -> list[Tensor]:
    """The gradients of the shard and of the weights, as far as they are needed."""
    way = _TRAVELS[travel]
    of_shard, *of_weights = needs
    shard = gathered.new_empty((gathered.shape[0] // way.size, gathered.shape[1]))

    def produce(span: slice, out: Tensor) -> None:
        _sum_of_products(((gradient[span], weight) for gradient, weight in zip(gradients, weights, strict=True)), out)

    end = way.of(shard).leaving(produce, shard) if of_shard else None
    pairs = zip(gradients, of_weights, strict=True)
    weight_gradients = [torch.mm(gradient.t(), gathered) for gradient, needed in pairs if needed]
    return [*(() if end is None else (end(),)), *weight_gradients]


@_enter_backward.register_fake
def _(
    _gradients: Sequence[Tensor], weights: Sequence[Tensor], gathered: Tensor, travel: str, needs: Sequence[bool]
) -> list[Tensor]:
    shard = gathered.new_empty((gathered.shape[0] // _TRAVELS[travel].size, gathered.shape[1]))
    all_gradients = (shard, *(weight.new_empty(weight.shape) for weight in weights))
    return [gradient for gradient, needed in zip(all_gradients, needs, strict=True) if needed]


@torch.library.custom_op("counterpoint::scattered_product", mutates_args=())
def _leave(rows: Tensor, weight: Tensor, travel: str) -> Tensor:
    """This rank's share of the sum over ranks of rows (rows, inputs) times a weight (outputs, inputs)."""
    way = _TRAVELS[travel]
    shard = rows.new_empty((rows.shape[0] // way.size, weight.shape[0]))

    def produce(span: slice, out: Tensor) -> None:
        torch.mm(rows[span], weight.t(), out=out)

    return way.of(shard).leaving(produce, shard)()


@_leave.register_fake
def _(rows: Tensor, weight: Tensor, travel: str) -> Tensor:
    return rows.new_empty((rows.shape[0] // _TRAVELS[travel].size, weight.shape[0]))


@torch.library.custom_op("counterpoint::scattered_product_backward", mutates_args=())
def _leave_backward(
    gradient: Tensor, rows: Tensor, weight: Tensor, travel: str, of_rows: bool, of_weight: bool
) -> list[Tensor]:
    """The gradients of the rows and of the weight, as far as they are needed."""
    way = _TRAVELS[travel]
    shard = gradient.contiguous()
    gathered = _whole(shard, shard.shape[1], way.size)
    row_gradients = rows.new_empty(rows.shape if of_rows else (0,))
    for span, arrived in way.of(shard).arriving(shard, gathered):
        if of_rows:
            torch.mm(arrived, weight, out=row_gradients[span])
    return [*((row_gradients,) if of_rows else ()), *((torch.mm(gathered.t(), rows),) if of_weight else ())]


@_leave_backward.register_fake
def _(_gradient: Tensor, rows: Tensor, weight: Tensor, _travel: str, of_rows: bool, of_weight: bool) -> list[Tensor]:
    pairs = ((rows, of_rows), (weight, of_weight))
    return [tensor.new_empty(tensor.shape) for tensor, needed in pairs if needed]


def _whole(shard: Tensor, width: int, size: int) -> Tensor:
    return shard.new_empty((shard.shape[0] * size, width))


def _sum_of_products(pairs: Iterable[tuple[Tensor, Tensor]], out: Tensor) -> None:
    for number, (left, right) in enumerate(pairs):
        torch.addmm(out, left, right, beta=min(number, 1), out=out)


def _keep_entering(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    _shard, weights, ctx.travel = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0], *weights)


def _enter_gradients(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    gathered, *weights = ctx.saved_tensors
    of_shard, of_weights, _travel = ctx.needs_input_grad
    of_products = [
        gathered.new_zeros((gathered.shape[0], weight.shape[0])) if gradient is None else gradient
        for gradient, weight in zip(gradients[1:], weights, strict=True)
    ]
    found = iter(_enter_backward(of_products, weights, gathered, ctx.travel, [of_shard, *of_weights]))
    return next(found) if of_shard else None, [next(found) if needed else None for needed in of_weights], None


def _keep_leaving(ctx: Any, inputs: tuple[Any, ...], **_output: Tensor) -> None:
    rows, weight, ctx.travel = inputs
    ctx.save_for_backward(rows, weight)


def _leave_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    of_rows, of_weight, _travel = ctx.needs_input_grad
    found = iter(_leave_backward(gradient, *ctx.saved_tensors, ctx.travel, of_rows, of_weight))
    return next(found) if of_rows else None, next(found) if of_weight else None, None


_enter.register_autograd(_enter_gradients, setup_context=_keep_entering)
_leave.register_autograd(_leave_gradients, setup_context=_keep_leaving)
