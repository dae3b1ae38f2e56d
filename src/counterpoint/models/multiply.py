"""Products of rows with weights; parallelize/ may replace them by products that defer the weight gradient."""

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@final
class Multiply(nn.Module):
    """x W^T + b: rows (rows, inputs), weight (outputs, inputs) and bias (outputs,) or None -> (rows, outputs)."""

    def forward(self, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(rows, weight, bias)


@final
class AddBias(nn.Module):
    """x + b: rows (rows, outputs) and bias (outputs,)."""

    def forward(self, rows: Tensor, bias: Tensor) -> Tensor:
        return rows + bias


@final
class ReadTable(nn.Module):
    """Looks up the rows of a table (entries, hidden) at int64 indices (rows,) -> (rows, hidden)."""

    def forward(self, table: Tensor, places: Tensor) -> Tensor:
        return F.embedding(places, table)


@final
class GroupedMultiply(nn.Module):
    """The product of each group of rows with its own weight: rows (rows, inputs) sorted by group, weights (groups,
    outputs, inputs) and what `groups_of` makes of the number of rows of each -> (rows, outputs)."""

    def forward(self, rows: Tensor, weights: Tensor, groups: "Groups") -> Tensor:
        return grouped_product(rows, weights, groups)


Groups = Tensor | list[int]
"""Groups of rows: their ends, int32 (groups,), if one kernel multiplies all of them, else a list of lengths."""

_ALIGNED = 8
"""`grouped_mm` reads rows of 16 bytes at a time: widths in bfloat16 are multiples of 8, others take the loop."""


def groups_of(counts: Tensor, rows: Tensor, weights: Tensor) -> Groups:
    """Groups with `counts` int64 (groups,) rows, in the form that the kernel for these rows, and for weights of this
    shape, transposed or not, needs."""
    if rows.is_cuda and rows.dtype == torch.bfloat16 and not any(extent % _ALIGNED for extent in weights.shape[1:]):
        return counts.cumsum(0).to(torch.int32)
    lengths: list[int] = counts.tolist()
    return lengths


def grouped_product(rows: Tensor, weights: Tensor, groups: Groups) -> Tensor:
    """Rows (rows, inputs) times the transposed weights (groups, outputs, inputs) of their groups; what comes out for
    rows after the last group is nobody's."""
    if isinstance(groups, Tensor):
        return F.grouped_mm(rows, weights.transpose(1, 2), offs=groups)
    used = sum(groups)
    pairs = zip(torch.split(rows[:used], groups), weights.unbind(), strict=True)
    products = torch.cat([F.linear(group, weight) for group, weight in pairs])
    return F.pad(products, (0, 0, 0, rows.shape[0] - used))


def grouped_weight_gradient(gradient: Tensor, rows: Tensor, groups: Groups) -> Tensor:
    """The gradient (groups, outputs, inputs) of the weights from that of the product, (rows, outputs)."""
    if isinstance(groups, Tensor):
        return F.grouped_mm(gradient.t(), rows, offs=groups)
    used = sum(groups)
    pairs = zip(torch.split(gradient[:used], groups), torch.split(rows[:used], groups), strict=True)
    return torch.stack([group.t() @ inputs for group, inputs in pairs])
