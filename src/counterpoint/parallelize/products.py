"""The products at both ends of a sublayer, together with the exchange of their rows over tensor-parallel ranks.

Gathered rows are multiplied as they arrive, and rows that are summed over ranks leave as they are made; backward does
the same with the roles exchanged, and computes weight gradients while rows travel. Under a compiler these are custom
operations, so that it neither looks into them nor breaks its graph at them; without one they are autograd functions,
since a custom operation costs the host half a millisecond for each sublayer.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, final

import torch
from torch import Tensor, nn

from counterpoint.models.multiply import Multiply
from counterpoint.models.seams import Product
from counterpoint.parallelize.exchange import EnterExchange, LeaveExchange, RowExchange, TensorGroup
from counterpoint.parallelize.transport import Travel

_NUMBERS = count()
_TRAVELS: dict[str, Travel] = {}
"""Transports by name, since operations take only names and tensors; they live as long as their groups."""


def travel_of(ranks: TensorGroup, *, overlap: bool = True) -> Travel:
    """The transport of rows between the ranks of a group, shared by all modules that exchange rows there."""
    # The same for all chains of a module: a group has its memory once, and a compiler sees one name.
    for known in _TRAVELS.values():
        if known.ranks == ranks and known.overlap is overlap:
            return known
    # Compilers keep what they made under the name, with shapes that follow from the size.
    travel = Travel(ranks, f"travel {next(_NUMBERS)} of {ranks.size}", overlap=overlap)
    _TRAVELS[travel.name] = travel
    return travel


def forget_travels() -> None:
    """Drop the transports of all groups, before these are destroyed; all ranks do it together."""
    _TRAVELS.clear()


@final
class GatheredProducts(EnterExchange):
    """All-gathers rows and multiplies them by linears' weights; gradients of rows are reduce-scattered."""

    def __init__(self, ranks: TensorGroup, travel: Travel) -> None:
        super().__init__(RowExchange(ranks.all_gather, ranks.reduce_scatter))
        self.travel = travel

    def products(self, rows: Tensor, *linears: Product) -> tuple[Tensor, ...]:
        if not all(type(linear.multiply) is Multiply for linear in linears):
            return super().products(rows, *linears)
        weights = [linear.weight for linear in linears]
        if torch.compiler.is_compiling():
            _gathered, *products = _enter(rows, weights, self.travel.name)
        else:
            products = _Entering.apply(self.travel, rows, *weights)  # type: ignore[no-untyped-call]
        pairs = zip(products, linears, strict=True)
        return tuple(made if linear.bias is None else made + linear.bias for made, linear in pairs)


@final
class ScatteredProduct(LeaveExchange):
    """Reduce-scatters a product over ranks; gradients of rows are all-gathered."""

    def __init__(self, ranks: TensorGroup, travel: Travel) -> None:
        super().__init__(RowExchange(ranks.reduce_scatter, ranks.all_gather))
        self.travel = travel

    def product(self, rows: Tensor, weight: Tensor, multiply: nn.Module) -> Tensor:
        if type(multiply) is not Multiply:
            return super().product(rows, weight, multiply)
        left: Tensor
        if torch.compiler.is_compiling():
            held = _hold(rows, weight, self.travel.name)
            left = _leave(held, rows.detach(), weight.detach(), self.travel.name)
        else:
            held = _Holding.apply(self.travel, rows, weight)  # type: ignore[no-untyped-call]
            left = _Leaving.apply(self.travel, held, rows.detach(), weight.detach())  # type: ignore[no-untyped-call]
        return left


@torch.library.custom_op("counterpoint::gathered_products", mutates_args=())
def _enter(shard: Tensor, weights: Sequence[Tensor], travel: str) -> list[Tensor]:
    return _entered(_TRAVELS[travel], shard, weights)


def _entered(way: Travel, shard: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """The shards (rows, inputs) of all ranks, and their products with weights (outputs, inputs)."""
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
    gradients: Sequence[Tensor], weights: Sequence[Tensor], gathered: Tensor | None, travel: str, needs: Sequence[bool]
) -> list[Tensor]:
    return _entering_gradients(_TRAVELS[travel], gradients, weights, gathered, needs)


def _entering_gradients(
    way: Travel,
    gradients: Sequence[Tensor],
    weights: Sequence[Tensor],
    gathered: Tensor | None,
    needs: Sequence[bool],
) -> list[Tensor]:
    """The gradient of the shard, if there are weights, and of the weights that need one."""
    end = None
    if weights:
        shard = gradients[0].new_empty((gradients[0].shape[0] // way.size, weights[0].shape[1]))

        def produce(span: slice, out: Tensor) -> None:
            pairs = zip(gradients, weights, strict=True)
            _sum_of_products(((gradient[span], weight) for gradient, weight in pairs), out)

        end = way.of(shard).leaving(produce, shard)
    needed = [gradient for gradient, is_needed in zip(gradients, needs, strict=True) if is_needed]
    weight_gradients = [] if gathered is None else [torch.mm(gradient.t(), gathered) for gradient in needed]
    return [*(() if end is None else (end(),)), *weight_gradients]


@_enter_backward.register_fake
def _(
    gradients: Sequence[Tensor], weights: Sequence[Tensor], gathered: Tensor | None, travel: str, needs: Sequence[bool]
) -> list[Tensor]:
    rows = gradients[0].shape[0] // _TRAVELS[travel].size
    of_shard = [gradients[0].new_empty((rows, weights[0].shape[1]))] if weights else []
    needed = [gradient for gradient, is_needed in zip(gradients, needs, strict=True) if is_needed]
    of_weights = [] if gathered is None else [g.new_empty((g.shape[1], gathered.shape[1])) for g in needed]
    return [*of_shard, *of_weights]


@torch.library.custom_op("counterpoint::product_to_scatter", mutates_args=())
def _hold(rows: Tensor, weight: Tensor, travel: str) -> Tensor:
    """An empty tensor in the shape of the output; saves rows and weight for backward.

    It is apart from the product, so that a recomputation, which stops once all tensors are saved again, neither
    multiplies nor sends; a compiled layer is one operation, whose recomputation still does both.
    """
    return rows.new_empty((rows.shape[0] // _TRAVELS[travel].size, weight.shape[0]))


@_hold.register_fake
def _(rows: Tensor, weight: Tensor, travel: str) -> Tensor:
    return rows.new_empty((rows.shape[0] // _TRAVELS[travel].size, weight.shape[0]))


@torch.library.custom_op("counterpoint::scattered_product", mutates_args=())
def _leave(held: Tensor, rows: Tensor, weight: Tensor, travel: str) -> Tensor:
    return _left(_TRAVELS[travel], held, rows, weight)


def _left(way: Travel, held: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """This rank's share of the sum over ranks of rows (rows, inputs) times a weight (outputs, inputs)."""

    def produce(span: slice, out: Tensor) -> None:
        torch.mm(rows[span], weight.t(), out=out)

    return way.of(held).leaving(produce, held)()


@_leave.register_fake
def _(held: Tensor, _rows: Tensor, _weight: Tensor, _travel: str) -> Tensor:
    return held.new_empty(held.shape)


@torch.library.custom_op("counterpoint::scattered_product_backward", mutates_args=())
def _leave_backward(gradient: Tensor, rows: Tensor | None, weight: Tensor | None, travel: str) -> list[Tensor]:
    return _leaving_gradients(_TRAVELS[travel], gradient, rows, weight)


def _leaving_gradients(way: Travel, gradient: Tensor, rows: Tensor | None, weight: Tensor | None) -> list[Tensor]:
    """The gradient of the rows, if there is a weight, and of the weight, if there are rows."""
    shard = gradient.contiguous()
    gathered = _whole(shard, shard.shape[1], way.size)
    of_rows = None if weight is None else _whole(shard, weight.shape[1], way.size)
    for span, arrived in way.of(shard).arriving(shard, gathered):
        if weight is not None and of_rows is not None:
            torch.mm(arrived, weight, out=of_rows[span])
    return [*(() if of_rows is None else (of_rows,)), *(() if rows is None else (torch.mm(gathered.t(), rows),))]


@_leave_backward.register_fake
def _(gradient: Tensor, rows: Tensor | None, weight: Tensor | None, travel: str) -> list[Tensor]:
    of_rows = [] if weight is None else [_whole(gradient, weight.shape[1], _TRAVELS[travel].size)]
    return [*of_rows, *([] if rows is None else [rows.new_empty((gradient.shape[1], rows.shape[1]))])]


def _whole(shard: Tensor, width: int, size: int) -> Tensor:
    return shard.new_empty((shard.shape[0] * size, width))


def _sum_of_products(pairs: Iterable[tuple[Tensor, Tensor]], out: Tensor) -> None:
    for number, (left, right) in enumerate(pairs):
        torch.addmm(out, left, right, beta=min(number, 1), out=out)


def _keep_entering(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    """Save what backward needs: the gathered rows for gradients of weights, the weights for gradients of rows."""
    _shard, weights, ctx.travel = inputs
    ctx.set_materialize_grads(False)
    of_shard, *of_weights = ctx.needs_input_grad[: 1 + len(weights)]
    ctx.save_for_backward(output[0] if any(of_weights) else None, *(weights if of_shard else ()))
    ctx.shapes = [tuple(product.shape) for product in output[1:]]


def _enter_gradients(ctx: Any, gradients: list[Tensor | None]) -> tuple[Any, ...]:
    gathered, *weights = ctx.saved_tensors
    of_shard, of_weights, _travel = ctx.needs_input_grad
    of_products = _filled(gradients[1:], ctx.shapes)
    if of_products is None:
        return None, [None] * len(of_weights), None
    found = iter(_enter_backward(of_products, weights, gathered, ctx.travel, of_weights))
    return next(found) if of_shard else None, [next(found) if needed else None for needed in of_weights], None


def _filled(gradients: Sequence[Tensor | None], shapes: Sequence[tuple[int, ...]]) -> list[Tensor] | None:
    """The gradients, zeros in place of those that are missing; None if all are."""
    like = next((gradient for gradient in gradients if gradient is not None), None)
    if like is None:
        return None
    pairs = zip(gradients, shapes, strict=True)
    return [like.new_zeros(shape) if gradient is None else gradient for gradient, shape in pairs]


def _keep_holding(ctx: Any, inputs: tuple[Any, ...], **_output: Tensor) -> None:
    rows, weight, ctx.travel = inputs
    of_rows, of_weight, *_others = ctx.needs_input_grad
    ctx.save_for_backward(rows if of_weight else None, weight if of_rows else None)


def _held_gradients(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    of_rows, of_weight, _travel = ctx.needs_input_grad
    found = iter(_leave_backward(gradient, *ctx.saved_tensors, ctx.travel))
    return next(found) if of_rows else None, next(found) if of_weight else None, None


def _keep_nothing(**_given: object) -> None:
    """Save nothing: backward needs only what was saved before the product."""


def _gradient_of_held(_ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return gradient, None, None, None


_enter.register_autograd(_enter_gradients, setup_context=_keep_entering)
_hold.register_autograd(_held_gradients, setup_context=_keep_holding)
_leave.register_autograd(_gradient_of_held, setup_context=_keep_nothing)


@final
class _Entering(torch.autograd.Function):
    """`_enter` without a compiler; the gathered rows are not an output."""

    @staticmethod
    def forward(ctx: Any, way: Travel, shard: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        gathered, *products = _entered(way, shard, weights)
        _way, of_shard, *of_weights = ctx.needs_input_grad
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(gathered if any(of_weights) else None, *(weights if of_shard else ()))
        ctx.way, ctx.shapes = way, [tuple(product.shape) for product in products]
        return tuple(products)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        gathered, *weights = ctx.saved_tensors
        _way, of_shard, *of_weights = ctx.needs_input_grad
        of_products = _filled(gradients, ctx.shapes)
        if of_products is None:
            return (None,) * len(ctx.needs_input_grad)
        found = iter(_entering_gradients(ctx.way, of_products, weights, gathered, of_weights))
        of_rows = next(found) if of_shard else None
        return None, of_rows, *(next(found) if needed else None for needed in of_weights)


@final
class _Holding(torch.autograd.Function):
    """`_hold` without a compiler."""

    @staticmethod
    def forward(ctx: Any, way: Travel, rows: Tensor, weight: Tensor) -> Tensor:
        _way, of_rows, of_weight = ctx.needs_input_grad
        ctx.save_for_backward(rows if of_weight else None, weight if of_rows else None)
        ctx.way = way
        return rows.new_empty((rows.shape[0] // way.size, weight.shape[0]))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _way, of_rows, of_weight = ctx.needs_input_grad
        found = iter(_leaving_gradients(ctx.way, gradients[0], *ctx.saved_tensors))
        return None, next(found) if of_rows else None, next(found) if of_weight else None


@final
class _Leaving(torch.autograd.Function):
    """`_leave` without a compiler."""

    @staticmethod
    def forward(_ctx: Any, way: Travel, held: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
        return _left(way, held, rows, weight)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return None, gradients[0], None, None
