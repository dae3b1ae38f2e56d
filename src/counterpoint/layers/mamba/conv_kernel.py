"""GPU kernels of the causal convolution over the rows of each document, with its SiLU.

A program walks down (or up) some rows of some channels and keeps the last rows in registers, so each row is read once.
It imports Triton, which comes with torch for GPUs, so import it only where a GPU is in use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _COLUMNS, _WARPS = 64, 512, 2
"""Rows and channels of a program, and its warps, which were fastest of those tried on an H200."""


@triton.jit
def _taps(taps, column, is_column, width):  # type: ignore[no-untyped-def]
    """The factors of a row and of the three before it, and the bias; a narrower filter has zeros for the first."""
    place = taps + column * (width + 1) + width
    own = tl.load(place - 1, mask=is_column, other=0.0).to(tl.float32)
    one = tl.load(place - 2, mask=is_column & (width > 1), other=0.0).to(tl.float32)
    two = tl.load(place - 3, mask=is_column & (width > 2), other=0.0).to(tl.float32)
    three = tl.load(place - 4, mask=is_column & (width > 3), other=0.0).to(tl.float32)
    return own, one, two, three, tl.load(place, mask=is_column, other=0.0).to(tl.float32)


@triton.jit
def _row(rows, document, row, count, channels, column, is_column):  # type: ignore[no-untyped-def]
    """A row and the number of its document; zeros and -1 outside."""
    is_row = (row >= 0) & (row < count)
    values = tl.load(rows + row.to(tl.int64) * channels + column, mask=is_column & is_row, other=0.0)
    return values.to(tl.float32), tl.load(document + row, mask=is_row, other=-1)


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _convolve(  # type: ignore[no-untyped-def]
    rows, taps, document, out, count, channels, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    start = tl.program_id(0) * ROWS
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < channels
    f0, f1, f2, f3, bias = _taps(taps, column, is_column, width)
    x1, d1 = _row(rows, document, start - 1, count, channels, column, is_column)
    x2, d2 = _row(rows, document, start - 2, count, channels, column, is_column)
    x3, d3 = _row(rows, document, start - 3, count, channels, column, is_column)
    x0, d0 = _row(rows, document, start, count, channels, column, is_column)
    for step in range(ROWS):
        row = start + step
        # The next row is on its way while this one is used.
        ahead, of_ahead = _row(rows, document, row + 1, count, channels, column, is_column)
        total = bias + x0 * f0
        total += tl.where(d1 == d0, x1 * f1, 0.0)
        total += tl.where(d2 == d0, x2 * f2, 0.0)
        total += tl.where(d3 == d0, x3 * f3, 0.0)
        made = total * tl.sigmoid(total)
        place = out + row.to(tl.int64) * channels + column
        tl.store(place, made.to(out.dtype.element_ty), mask=is_column & (row < count))
        x3, x2, x1, x0 = x2, x1, x0, ahead
        d3, d2, d1, d0 = d2, d1, d0, of_ahead


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _convolve_back(  # type: ignore[no-untyped-def]
    gradient, rows, taps, document, of_rows, of_taps, count, channels, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    start = tl.program_id(0) * ROWS
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    is_column = column < channels
    f0, f1, f2, f3, bias = _taps(taps, column, is_column, width)
    # Upwards: the gradients of three later sums, y1 to y3, wait for the rows that they reach.
    y1 = tl.zeros((COLUMNS,), dtype=tl.float32)
    y2 = tl.zeros((COLUMNS,), dtype=tl.float32)
    y3 = tl.zeros((COLUMNS,), dtype=tl.float32)
    t0 = tl.zeros((COLUMNS,), dtype=tl.float32)
    t1 = tl.zeros((COLUMNS,), dtype=tl.float32)
    t2 = tl.zeros((COLUMNS,), dtype=tl.float32)
    t3 = tl.zeros((COLUMNS,), dtype=tl.float32)
    of_bias = tl.zeros((COLUMNS,), dtype=tl.float32)
    last = start + ROWS + 2
    x0, d0 = _row(rows, document, last, count, channels, column, is_column)
    x1, d1 = _row(rows, document, last - 1, count, channels, column, is_column)
    x2, d2 = _row(rows, document, last - 2, count, channels, column, is_column)
    x3, d3 = _row(rows, document, last - 3, count, channels, column, is_column)
    given, _of = _row(gradient, document, last, count, channels, column, is_column)
    # Documents of the three later rows.
    e1 = d0 * 0 - 2
    e2 = d0 * 0 - 2
    e3 = d0 * 0 - 2
    for step in range(ROWS + 3):
        row = last - step
        above, of_above = _row(rows, document, row - 4, count, channels, column, is_column)
        next_given, _of = _row(gradient, document, row - 1, count, channels, column, is_column)
        total = bias + x0 * f0
        total += tl.where(d1 == d0, x1 * f1, 0.0)
        total += tl.where(d2 == d0, x2 * f2, 0.0)
        total += tl.where(d3 == d0, x3 * f3, 0.0)
        passed = tl.sigmoid(total)
        y0 = given * passed * (1 + total * (1 - passed))
        is_own = (row < start + ROWS) & (row < count)
        if is_own:
            t0 += y0 * x0
            t1 += tl.where(d1 == d0, y0 * x1, 0.0)
            t2 += tl.where(d2 == d0, y0 * x2, 0.0)
            t3 += tl.where(d3 == d0, y0 * x3, 0.0)
            of_bias += y0
            made = y0 * f0
            made += tl.where(e1 == d0, y1 * f1, 0.0)
            made += tl.where(e2 == d0, y2 * f2, 0.0)
            made += tl.where(e3 == d0, y3 * f3, 0.0)
            place = of_rows + row.to(tl.int64) * channels + column
            tl.store(place, made.to(of_rows.dtype.element_ty), mask=is_column)
        y3, y2, y1 = y2, y1, y0
        e3, e2, e1 = e2, e1, d0
        x0, x1, x2, x3 = x1, x2, x3, above
        d0, d1, d2, d3 = d1, d2, d3, of_above
        given = next_given
    place = of_taps + (tl.program_id(0).to(tl.int64) * channels + column) * (width + 1) + width
    tl.store(place, of_bias, mask=is_column)
    tl.store(place - 1, t0, mask=is_column)
    tl.store(place - 2, t1, mask=is_column & (width > 1))
    tl.store(place - 3, t2, mask=is_column & (width > 2))
    tl.store(place - 4, t3, mask=is_column & (width > 3))


def convolved(rows: Tensor, taps: Tensor, document: Tensor) -> Tensor:
    """`causal_conv` of rows (rows, channels) with taps (channels, width + 1), whose last column is the bias."""
    out = torch.empty_like(rows)
    (count, channels), width = rows.shape, taps.shape[1] - 1
    _convolve[_grid(rows)](
        rows, taps, document, out, count, channels, width, ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS
    )
    return out


def convolved_back(gradient: Tensor, rows: Tensor, taps: Tensor, document: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the rows and of the taps."""
    (count, channels), width = rows.shape, taps.shape[1] - 1
    of_rows, grid = torch.empty_like(rows), _grid(rows)
    of_taps = torch.empty((grid[0], channels, width + 1), dtype=torch.float32, device=rows.device)
    _convolve_back[grid](
        gradient, rows, taps, document, of_rows, of_taps, count, channels, width,
        ROWS=_ROWS, COLUMNS=_COLUMNS, num_warps=_WARPS,
    )  # fmt: skip
    return of_rows, of_taps.sum(dim=0).to(taps.dtype)


def _grid(rows: Tensor) -> tuple[int, int]:
    count, channels = rows.shape
    return triton.cdiv(count, _ROWS), triton.cdiv(channels, _COLUMNS)
