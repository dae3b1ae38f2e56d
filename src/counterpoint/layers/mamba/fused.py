"""Convolution, scan and skip of Mamba-2 by hand-written GPU kernels, where these serve."""

from itertools import islice
from typing import Any, final

import torch
from torch import Tensor

_NARROW = (torch.bfloat16, torch.float16)
_WIDTHS = (16, 32, 64, 128)
"""Head widths and state sizes that the products of the kernels take."""

_MOST_TAPS = 4
"""Widest filter of the kernels."""


def has_kernels(x: Tensor, b: Tensor, taps: Tensor) -> bool:
    """Whether the kernels serve x (rows, heads, head_dim), b (rows, groups, state) and taps (..., width + 1)."""
    is_narrow = x.is_cuda and x.dtype in _NARROW and b.dtype == x.dtype
    return (
        is_narrow and x.shape[0] > 0 and {x.shape[2], b.shape[2]} <= set(_WIDTHS) and taps.shape[-1] - 1 <= _MOST_TAPS
    )


def convolve_and_scan(streams: tuple[Tensor, ...], filters: tuple[Tensor, ...], document: Tensor) -> Tensor:
    """What `MambaMix` computes of its streams and filters, and the document of each row, int64 (rows,); saves
    these, x, b and c after the convolution, and the states between chunks for backward."""
    mixed: Tensor = _ConvolveAndScan.apply(document, *streams, *filters)  # type: ignore[no-untyped-call]
    return mixed


@final
class _ConvolveAndScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, document: Tensor, *given: Tensor) -> Tensor:
        from counterpoint.layers.mamba.scan_kernel import scanned

        inputs = [tensor.contiguous() for tensor in given]
        step, decay, skip = inputs[3], inputs[4], inputs[8]
        x, b, c = _convolved(inputs, document)
        mixed, *kept = scanned(x, b, c, step, decay, skip, document)
        ctx.save_for_backward(document, *inputs[:4], *inputs[5:], x, b, c, *kept)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from counterpoint.layers.mamba.conv_kernel import convolved_back
        from counterpoint.layers.mamba.scan_kernel import scanned_back

        saved = iter(ctx.saved_tensors)
        document, *inputs = islice(saved, 5)
        filters, convolved, kept = (list(islice(saved, count)) for count in (4, 3, 3))
        given = (*convolved, inputs[3], filters[3], document)
        *of_convolved, of_step, of_decay, of_skip = scanned_back(gradients[0].contiguous(), given, *kept)
        of_rows, of_taps = [], []
        for gradient, rows, taps in zip(of_convolved, inputs[:3], filters[:3], strict=True):
            pair = convolved_back(gradient.flatten(1), rows.flatten(1), taps.flatten(0, 1), document)
            of_rows.append(pair[0].view_as(rows))
            of_taps.append(pair[1].view_as(taps))
        return None, *of_rows, of_step, of_decay, *of_taps, of_skip


def _convolved(inputs: list[Tensor], document: Tensor) -> list[Tensor]:
    """x, b and c after the convolution."""
    from counterpoint.layers.mamba.conv_kernel import convolved

    pairs = zip(inputs[:3], inputs[5:8], strict=True)
    return [convolved(rows.flatten(1), taps.flatten(0, 1), document).view_as(rows) for rows, taps in pairs]
