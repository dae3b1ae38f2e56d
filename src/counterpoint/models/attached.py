"""Losses that are attached to rows, so that backward of the rows includes them."""

from typing import Any, final

import torch
from torch import Tensor


@final
class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, loss: Tensor) -> Tensor:
        ctx.dtype, ctx.device = loss.dtype, loss.device
        return rows.view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], torch.ones((), dtype=ctx.dtype, device=ctx.device)


def attach(rows: Tensor, loss: Tensor) -> Tensor:
    """Return the rows unchanged; their backward also runs that of `loss`, as if it were added to the main loss.

    So the loss of a layer need not pass through later layers and pipeline stages.
    """
    out: Tensor = _Attached.apply(rows, loss)  # type: ignore[no-untyped-call]
    return out
