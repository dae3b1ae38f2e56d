"""Products at both ends of a sublayer with their exchange: every gradient, what is kept for it, what is sent when."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore
from torch.library import opcheck
from torch.utils.checkpoint import checkpoint

from counterpoint.models.linear import Linear, OutputLinear
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.products import (
    GatheredProducts,
    ScatteredProduct,
    _enter,
    _hold,
    _leave,
    forget_travels,
    travel_of,
)
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

SIZE, ROWS, HIDDEN, INNER = 2, 6, 5, 4
NEEDS = [(x, a, b) for x, a, b in product([False, True], repeat=3) if x or a or b]

both_ways = pytest.mark.parametrize("compiles", [False, True], ids=["as functions", "as operations"])
"""With a compiler, which takes operations of their own, and without one; operations run as they are here."""


class Sublayer:
    """Two linears that read rows and one that ends in a sum over ranks; some of it needs gradients."""

    def __init__(self, ranks: TensorGroup, needs: tuple[bool, bool, bool]) -> None:
        travel, rank = travel_of(ranks), ranks.rank
        generator = torch.Generator().manual_seed(3)
        self.whole = torch.randn(ROWS, HIDDEN, dtype=torch.float64, generator=generator)
        self.weights = [torch.randn(SIZE * INNER, HIDDEN, dtype=torch.float64, generator=generator) for _ in range(2)]
        self.weights.append(torch.randn(HIDDEN, SIZE * INNER, dtype=torch.float64, generator=generator))
        self.rank, self.needs = rank, needs
        of_rows, of_first, of_last = needs
        self.rows = self.whole.chunk(SIZE)[rank].clone().requires_grad_(of_rows)
        self.linears = [Linear(HIDDEN, INNER, bias=False).double() for _ in range(2)]
        for linear, weight in zip(self.linears, self.weights, strict=False):
            linear.weight = torch.nn.Parameter(weight.chunk(SIZE)[rank].clone(), requires_grad=of_first)
        self.last = OutputLinear(INNER, HIDDEN, bias=False).double()
        self.last.weight = torch.nn.Parameter(self.weights[2].chunk(SIZE, dim=1)[rank].clone(), requires_grad=of_last)
        self.enter, self.last.leave = GatheredProducts(ranks, travel), ScatteredProduct(ranks, travel)

    @property
    def leaves(self) -> list[Tensor]:
        """What may have a gradient: rows, the first weights, the last."""
        return [self.rows, *(linear.weight for linear in self.linears), self.last.weight]

    def __call__(self, rows: Tensor) -> Tensor:
        a, b = self.enter.products(rows, *self.linears)
        out: Tensor = self.last(a.sin() * b)
        return out

    def expected(self) -> tuple[Tensor, list[Tensor]]:
        """This rank's share of the output and of every gradient of its squares' sum, by plain products."""
        whole = [self.whole, *self.weights]
        leaves = [tensor.clone().requires_grad_() for tensor in whole]
        rows, a, b, last = leaves
        out = ((rows @ a.t()).sin() * (rows @ b.t())) @ last.t()
        gradients = torch.autograd.grad(out.square().sum(), leaves)
        shares = [gradient.chunk(SIZE)[self.rank] for gradient in gradients[:3]]
        return out.detach().chunk(SIZE)[self.rank], [*shares, gradients[3].chunk(SIZE, dim=1)[self.rank]]


@both_ways
def test_every_gradient_that_is_needed_is_right(pool: Pool, compiles: bool) -> None:
    assert pool.run(_gradients_task, compiles) == [(needs, True) for needs in NEEDS]


def _gradients_task(member: Member, compiles: bool) -> list[tuple[tuple[bool, ...], bool]] | None:
    with _group(member) as ranks, _compiling(compiles):
        return None if ranks is None else [(needs, _holds(Sublayer(ranks, needs))) for needs in NEEDS]


def _holds(layer: Sublayer) -> bool:
    out = layer(layer.rows)
    out.square().sum().backward()
    expected, gradients = layer.expected()
    of_rows, of_first, of_last = layer.needs
    holds = torch.allclose(out, expected, rtol=1e-12, atol=1e-12)
    for leaf, gradient, wanted in zip(layer.leaves, gradients, [of_rows, of_first, of_first, of_last], strict=True):
        holds &= (leaf.grad is not None) is wanted
        holds &= leaf.grad is None or torch.allclose(leaf.grad, gradient, rtol=1e-12, atol=1e-12)
    return holds


@both_ways
def test_a_product_that_nothing_reads_has_a_gradient_of_zero(pool: Pool, compiles: bool) -> None:
    assert pool.run(_unread_task, compiles) == (True, 0.0)


def _unread_task(member: Member, compiles: bool) -> tuple[bool, float] | None:
    with _group(member) as ranks, _compiling(compiles):
        return None if ranks is None else _unread(Sublayer(ranks, (True, True, True)))


def _unread(layer: Sublayer) -> tuple[bool, float]:
    read, _unread = layer.enter.products(layer.rows, *layer.linears)
    read.sum().backward()
    gradient = layer.linears[1].weight.grad
    assert gradient is not None
    return layer.linears[0].weight.grad is not None, float(gradient.abs().max())


@pytest.mark.parametrize(
    ("needs", "kept"),
    [
        # Weights where rows need a gradient; gathered rows where weights do; what enters the last product likewise.
        ((True, False, False), {"weights", "last"}),
        ((False, True, False), {"gathered", "last"}),
        ((False, False, True), {"inner"}),
        ((True, True, True), {"weights", "gathered", "inner", "last"}),
    ],
)
@both_ways
def test_what_is_kept_is_what_gradients_need(
    pool: Pool, needs: tuple[bool, bool, bool], kept: set[str], compiles: bool
) -> None:
    assert pool.run(_kept_task, compiles, needs) == kept


def _kept_task(member: Member, compiles: bool, needs: tuple[bool, bool, bool]) -> set[str] | None:
    with _group(member) as ranks, _compiling(compiles):
        return None if ranks is None else _kept(Sublayer(ranks, needs))


def _kept(layer: Sublayer) -> set[str]:
    shapes: set[tuple[int, ...]] = set()

    def note(tensor: Tensor) -> Tensor:
        shapes.add(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        products = layer.enter.products(layer.rows, *layer.linears)
        first = set(shapes)
        shapes.clear()
        of_rows, of_first, _of_last = layer.needs
        inner = products[0].detach().requires_grad_(of_rows or of_first)
        layer.last(inner)
    names: dict[tuple[int, ...], str] = {(INNER, HIDDEN): "weights", (ROWS, HIDDEN): "gathered"}
    last: dict[tuple[int, ...], str] = {(HIDDEN, INNER): "last", (ROWS, INNER): "inner"}
    return {names[shape] for shape in first} | {last[shape] for shape in shapes}


@both_ways
def test_recomputation_sends_nothing_that_backward_does_not_read(pool: Pool, compiles: bool) -> None:
    assert pool.run(_recompute_task, compiles) == (["gather", "scatter"], ["gather", "gather", "scatter"])


def _recompute_task(member: Member, compiles: bool) -> tuple[list[str], list[str]] | None:
    """What forward and backward of a recomputed sublayer exchange, in order."""
    with _group(member) as ranks, _compiling(compiles):
        return None if ranks is None else _exchanges(Sublayer(ranks, (True, True, True)))


def _exchanges(layer: Sublayer) -> tuple[list[str], list[str]]:
    with _noted() as forward:
        out = checkpoint(layer, layer.rows, use_reentrant=False)
    with _noted() as backward:
        out.square().sum().backward()
    # The gather again, that of the output's gradient, the sum for the rows' gradient: no product leaves twice.
    return forward, backward


@contextmanager
def _noted() -> Iterator[list[str]]:
    calls: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, short in (("all_gather", "gather"), ("reduce_scatter", "scatter")):
            plain = getattr(TensorGroup, name)

            def noted(*arguments: object, plain: object = plain, short: str = short) -> object:
                calls.append(short)
                return plain(*arguments)  # type: ignore[operator]

            patch.setattr(TensorGroup, name, noted)
        yield calls


def test_the_operations_are_what_they_tell_compilers(pool: Pool) -> None:
    assert pool.run(_opcheck_task)


def _opcheck_task(member: Member) -> bool | None:
    with _group(member) as ranks:
        return None if ranks is None else _checked(Sublayer(ranks, (True, True, True)))


def _checked(layer: Sublayer) -> bool:
    assert isinstance(layer.enter, GatheredProducts)
    name = layer.enter.travel.name
    weights = [linear.weight for linear in layer.linears]
    inner = torch.randn(ROWS, INNER, dtype=torch.float64, requires_grad=True)
    held = torch.empty(ROWS // SIZE, HIDDEN, dtype=torch.float64, requires_grad=True)
    tests = ("test_schema", "test_faketensor", "test_autograd_registration")
    opcheck(_enter, (layer.rows, weights, name), test_utils=tests)
    opcheck(_hold, (inner, layer.last.weight, name), test_utils=tests)
    opcheck(_leave, (held, inner.detach(), layer.last.weight.detach(), name), test_utils=tests)
    return True


def test_groups_of_other_sizes_have_other_names() -> None:
    groups = [TensorGroup(dist.ProcessGroup(HashStore(), 0, size), 0, size) for size in (2, 4)]
    names = [travel_of(ranks).name.split(" ", 2)[2] for ranks in groups]
    assert names == ["of 2", "of 4"]


@contextmanager
def _compiling(compiles: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: compiles)
        yield


@contextmanager
def _group(member: Member) -> Iterator[TensorGroup | None]:
    """A group of the first ranks, which all ranks of the pool make once; None on the others."""
    group = dist.new_group(list(range(SIZE)))
    rank = member.world.rank
    yield TensorGroup(group, rank, SIZE) if rank < SIZE else None
    if rank < SIZE:
        forget_travels()
        dist.destroy_process_group(group)
