"""Exchanges of rows in a tensor-parallel group, each with the exchange that carries its gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from counterpoint.models.seams import Enter, Leave

Operation = Callable[[Tensor], Tensor]

_HAS_NEW_NAMES = torch.__version__ >= "2.13"
"""Whether torch calls the collectives on one tensor `*_single`; calling the old names then warns."""


@final
class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, forward: Operation, backward: Operation) -> Tensor:
        ctx.backward_operation = backward
        return forward(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return ctx.backward_operation(gradients[0]), None, None


@final
class RowExchange(nn.Module):
    """Applies `operation` to rows in forward and `transpose` to their gradient in backward."""

    def __init__(self, operation: Operation, transpose: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.transpose = transpose

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, rows: Tensor) -> Tensor:
        out: Tensor = _Exchange.apply(rows, self.operation, self.transpose)  # type: ignore[no-untyped-call]
        return out


class EnterExchange(Enter):
    """An exchange before the first linears of a sublayer."""

    def __init__(self, exchange: RowExchange) -> None:
        super().__init__()
        self.exchange = exchange

    def forward(self, rows: Tensor) -> Tensor:
        entered: Tensor = self.exchange(rows)
        return entered


class LeaveExchange(Leave):
    """An exchange after the last linear of a sublayer."""

    def __init__(self, exchange: RowExchange) -> None:
        super().__init__()
        self.exchange = exchange

    def forward(self, rows: Tensor) -> Tensor:
        left: Tensor = self.exchange(rows)
        return left


@dataclass(frozen=True)
class TensorGroup:
    """A rank among the `size` ranks of `group`, and the collectives on rows (rows, ...) that it joins.

    All ranks hold the same number of rows, so a collective without rows is skipped by all of them alike.
    """

    group: dist.ProcessGroup
    rank: int
    size: int

    def all_gather(self, rows: Tensor, into: Tensor | None = None) -> Tensor:
        """The rows (rows, ...) of all ranks, concatenated in rank order: (size * rows, ...)."""
        out = rows.new_empty((rows.shape[0] * self.size, *rows.shape[1:])) if into is None else into
        if out.numel():
            all_gather = dist.all_gather_single if _HAS_NEW_NAMES else dist.all_gather_into_tensor
            all_gather(out, rows.contiguous(), group=self.group)
        return out

    def reduce_scatter(self, rows: Tensor) -> Tensor:
        """This rank's share of the rows, summed over all ranks."""
        shape = (rows.shape[0] // self.size, *rows.shape[1:])
        if rows.is_cpu:
            # Gloo's own sums all rows on all ranks and drops most of them (torch 2.13): twice the traffic.
            return self.all_to_all(rows.reshape(self.size, *shape)).sum(0)
        out = rows.new_empty(shape)
        if out.numel():
            reduce_scatter = dist.reduce_scatter_single if _HAS_NEW_NAMES else dist.reduce_scatter_tensor
            reduce_scatter(out, rows.contiguous(), group=self.group)
        return out

    def all_to_all(self, parts: Tensor) -> Tensor:
        """Send part i of (size, ...) to rank i; returns the parts that arrive, (size, ...), by rank."""
        out = torch.empty_like(parts, memory_format=torch.contiguous_format)
        if out.numel():
            dist.all_to_all_single(out, parts.contiguous(), group=self.group)
        return out

    def all_reduce(self, rows: Tensor) -> Tensor:
        """The rows summed over all ranks."""
        out = rows.clone(memory_format=torch.contiguous_format)
        if out.numel():
            dist.all_reduce(out, group=self.group)
        return out

    def own_share(self, rows: Tensor) -> Tensor:
        """This rank's share of rows that all ranks hold."""
        share = rows.shape[0] // self.size
        return rows.narrow(0, self.rank * share, share).clone()


def keep(rows: Tensor) -> Tensor:
    """The rows as they are."""
    return rows.view_as(rows)
