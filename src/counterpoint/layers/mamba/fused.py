"""Convolution, scan and skip of Mamba-2 by hand-written GPU kernels, where these serve."""

from typing import Any, final

import torch
from torch import Tensor

_NARROW = (torch.bfloat16,)
_WIDTHS = (16, 32, 64, 128)
"""Head widths and state sizes that the products of the kernels take."""

_MOST_TAPS = 4
"""Widest filter of the kernels."""


def has_conv_kernel(rows: Tensor, taps: Tensor) -> bool:
    """Whether a kernel convolves rows (rows, n, width) with taps (n, width, taps + 1)."""
    # A compiler fuses the plain formulas itself.
    is_narrow = rows.is_cuda and rows.dtype in _NARROW and not torch.compiler.is_compiling()
    return is_narrow and rows.shape[0] > 0 and taps.shape[-1] - 1 <= _MOST_TAPS


def has_kernels(x: Tensor, b: Tensor, taps: Tensor) -> bool:
    """Whether kernels serve x (rows, heads, head_dim), b (rows, groups, state) and taps (..., taps + 1)."""
    return has_conv_kernel(x, taps) and b.dtype == x.dtype and {x.shape[2], b.shape[2]} <= set(_WIDTHS)


def convolve(rows: Tensor, taps: Tensor, document: Tensor) -> Tensor:
    """`causal_conv` of rows (rows, n, width) with taps (n, width, taps + 1), whose last column is the bias."""
    convolved: Tensor = _Convolve.apply(rows, taps, document)  # type: ignore[no-untyped-call]
    return convolved


def scan_and_skip(
    x: Tensor, b: Tensor, c: Tensor, step: Tensor, decay: Tensor, skip: Tensor, document: Tensor
) -> Tensor:
    """`scan` plus x times skip (heads,); keeps its inputs and the states between chunks for backward."""
    mixed: Tensor = _ScanAndSkip.apply(x, b, c, step, decay, skip, document)  # type: ignore[no-untyped-call]
    return mixed


@final
class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, taps: Tensor, document: Tensor) -> Tensor:
        from counterpoint.layers.mamba.conv_kernel import convolved

        rows, taps = rows.contiguous(), taps.contiguous()
        ctx.save_for_backward(rows, taps, document)
        return convolved(rows.flatten(1), taps.flatten(0, 1), document).view_as(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        from counterpoint.layers.mamba.conv_kernel import convolved_back

        rows, taps, document = ctx.saved_tensors
        given = gradients[0].contiguous().flatten(1)
        of_rows, of_taps = convolved_back(given, rows.flatten(1), taps.flatten(0, 1), document)
        return of_rows.view_as(rows), of_taps.view_as(taps), None


@final
class _ScanAndSkip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        from counterpoint.layers.mamba.scan_kernel import scanned

        x, b, c, step, decay, skip, document = (tensor.contiguous() for tensor in given)
        mixed, *kept = scanned(x, b, c, step, decay, skip, document)
        ctx.save_for_backward(x, b, c, step, skip, document, *kept)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from counterpoint.layers.mamba.scan_kernel import scanned_back

        saved = ctx.saved_tensors
        return *scanned_back(gradients[0].contiguous(), saved[:6], *saved[6:]), None
