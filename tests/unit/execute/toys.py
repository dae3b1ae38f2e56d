"""Toy modules in float64 that compute every row by itself, so that any layout runs them without an exchange inside.

A node multiplies rows by its one weight; the last node of a module merges them, or takes learned ones in their place.
"""

import functools
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint.execute.stage import ROWS
from counterpoint.plan.batch import DOCUMENT, BatchPlan, Share, Span
from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan

GARBAGE = 7.0
"""What stands in padding, on which nothing may depend."""

Inserts = tuple[tuple[Tensor, Tensor], ...]


@functools.cache
def noise(*key: object, shape: tuple[int, ...]) -> Tensor:
    """The same numbers for the same key."""
    dice = torch.Generator().manual_seed(zlib.crc32(repr(key).encode()))
    return torch.randn(shape, generator=dice, dtype=torch.float64) / 4


@dataclass(frozen=True)
class Rows:
    """A batch: local rows that enter a module, features for them, by how much each row that leaves counts, and learned
    rows in the place of those that leave."""

    rows: Tensor
    factors: Tensor
    learned: Tensor
    inserts: Inserts = ()
    deep: Mapping[int, Inserts] = field(default_factory=dict)

    def with_inserts(self, inserts: Inserts, deep: Mapping[int, Inserts]) -> "Rows":
        """See StageBatch."""
        return replace(self, inserts=inserts, deep=deep)


class Left:
    """Weight gradients that are still to be computed."""

    def __init__(self, products: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        self._products = products

    def run(self) -> None:
        """See WeightWork."""
        for weight, gradient, rows in self._products:
            found = gradient.T @ rows
            weight.grad = found if weight.grad is None else weight.grad + found


class Queue:
    """Where products leave what their weight's gradient is made of while it is collecting."""

    def __init__(self) -> None:
        self.is_collecting = False
        self.products: list[tuple[Tensor, Tensor, Tensor]] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """See WeightQueue."""
        self.is_collecting = True
        yield
        self.is_collecting = False

    def take(self) -> Left:
        """See WeightQueue."""
        products, self.products = self.products, []
        return Left(products)

    def multiply(self, rows: Tensor, weight: Tensor) -> Tensor:
        """rows weight^T."""
        out: Tensor = _Multiply.apply(rows, weight, self)
        return out


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, queue: Queue) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.weight, ctx.queue = weight, queue
        return rows @ weight.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (rows,), (gradient,) = ctx.saved_tensors, gradients
        found = None
        if ctx.needs_input_grad[1] and ctx.queue.is_collecting:
            ctx.queue.products.append((ctx.weight, gradient, rows))
        elif ctx.needs_input_grad[1]:
            found = gradient.T @ rows
        return gradient @ ctx.weight, found, None


class Toy(nn.Module):
    """The chain of a node: tanh(rows weight^T), merged after a module's last node, and after the sink's the loss.

    The last node of a module with queries `asks`: it takes the learned rows for those of items.
    """

    def __init__(self, plan: Plan, node: Node) -> None:
        super().__init__()
        widths = plan.widths[node.module]
        self.is_last = node.stage == plan.layouts[node.module].stages - 1
        self.is_loss = self.is_last and node.module == plan.sink
        self.asks = self.is_last and plan.rows[node.module].queries > 0
        self._merge = 1 if self.asks else plan.rows[node.module].merge
        shape = (
            widths.leaving if self.is_last else widths.inside,
            widths.inside if node.stage else entering_width(plan, node.module),
        )
        self.weight = nn.Parameter(noise("weight", str(node), shape=shape).clone(), plan.stages.trains(node))
        self.queue = Queue()

    def forward(self, rows: Tensor | None, batch: Rows) -> dict[str, Tensor]:
        """See StageModule."""
        entering = batch.rows if rows is None else rows
        for features, index in batch.inserts:
            entering = entering.index_add(0, index, features)
        out = self.of(batch.learned if self.asks else entering)
        return {ROWS: (out * batch.factors).sum() if self.is_loss else out}

    def of(self, rows: Tensor) -> Tensor:
        """What leaves the node."""
        out = torch.tanh(self.queue.multiply(rows, self.weight))
        return out.view(len(out) // self._merge, self._merge, out.shape[1]).sum(1) if self.is_last else out


def entering_width(plan: Plan, module: str) -> int:
    """Columns of the rows that enter a module."""
    widths = plan.widths[module]
    return widths.inside if widths.entering is None or not plan.rows[module].roots else widths.entering


def entering_rows(plan: Plan, batch: BatchPlan, module: str, span: Span) -> Tensor:
    """What a module reads of a span: nothing where it computes items of others, of which it gets features."""
    document, shape = batch.documents[span.document], (span.rows_in, entering_width(plan, module))
    if plan.rows[module].roots:
        return torch.zeros(shape, dtype=torch.float64)
    return noise(module, document.source, document.index, span.item, shape=shape)


def factors(plan: Plan, batch: BatchPlan, document: int) -> Tensor:
    """By how much each of the rows of a document counts in the loss."""
    what = batch.documents[document]
    return noise("factors", what.source, what.index, shape=(what.tokens, plan.widths[plan.sink].leaving))


def lane_rows(plan: Plan, batch: BatchPlan, module: str, share: Share) -> Tensor:
    """All rows that enter a lane."""
    lane = torch.full((share.rows_in, entering_width(plan, module)), GARBAGE, dtype=torch.float64)
    for span in share.spans:
        lane[span.row_in : span.row_in + span.rows_in] = entering_rows(plan, batch, module, span)
    return lane


def learned_rows(plan: Plan, module: str) -> Tensor:
    """What a module has in the place of an item's rows."""
    return noise("learned", module, shape=(plan.rows[module].queries, plan.widths[module].inside))


def lane_learned(plan: Plan, module: str, share: Share) -> Tensor:
    """The learned rows that leave a lane, once for each item."""
    lane = torch.full((share.rows_out, plan.widths[module].inside), GARBAGE, dtype=torch.float64)
    if plan.rows[module].queries:
        for span in share.spans:
            lane[span.row_out : span.row_out + span.rows_out] = learned_rows(plan, module)
    return lane


def lane_factors(plan: Plan, batch: BatchPlan, share: Share) -> Tensor:
    """By how much each row that leaves a lane of the sink counts."""
    lane = torch.zeros(share.rows_out, plan.widths[plan.sink].leaving, dtype=torch.float64)
    for span in share.spans:
        lane[span.row_out : span.row_out + span.rows_out] = factors(plan, batch, span.document)
    return lane


Gradients = dict[Node, Tensor]
"""The gradient of each node's weight, where there is one."""


def in_one_piece(plan: Plan, batch: BatchPlan) -> tuple[float, Gradients]:
    """A batch's loss and gradients, document by document: no lanes, no microbatches, no routes."""
    toys = {node: Toy(plan, node) for node in plan.stages.nodes}
    loss = torch.zeros((), dtype=torch.float64)
    for number, document in enumerate(batch.documents):
        rows = _leaving(plan, batch, toys, plan.sink, Span(number, DOCUMENT, 0, document.tokens, 0, document.tokens))
        loss = loss + (rows * factors(plan, batch, number)).sum()
    if loss.requires_grad:
        torch.autograd.backward(loss)
    return loss.item(), gradients(toys)


def gradients(toys: Mapping[Node, Toy]) -> Gradients:
    """The gradients of these nodes."""
    return {node: toy.weight.grad for node, toy in toys.items() if toy.weight.grad is not None}


def _leaving(plan: Plan, batch: BatchPlan, toys: Mapping[Node, Toy], module: str, span: Span) -> Tensor:
    """What leaves a module of a document or an item."""
    rows = entering_rows(plan, batch, module, span)
    for source in (plan.rows[edge.source] for edge in plan.graph.incoming(module)):
        for number, item in enumerate(batch.documents[span.document].items):
            if source.computes(item) and span.item in (DOCUMENT, number):
                first = item.position if span.item == DOCUMENT else 0
                inner = Span(span.document, number, 0, source.rows_in(item), 0, item.rows)
                features = _leaving(plan, batch, toys, source.layout.module, inner)
                rows = rows.index_add(0, torch.arange(first, first + item.rows), features)
    for toy in (toy for node, toy in toys.items() if node.module == module):
        rows = toy.of(learned_rows(plan, module) if toy.asks else rows)
    return rows
