"""GPU kernels that sort slots of rows by small keys, copy rows to entries, and sum entries into rows.

All are bound by memory: each row is read and written in pieces of 2 KiB or more, and no value is added atomically, so
results are the same in every run. It imports Triton, which comes with torch for GPUs, so import it only where a GPU is
in use.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

_VALUES = 1024
"""Values that a program handles at once: 16 bytes for each of 128 threads in bfloat16."""

_TILE = 8192
"""Pairs of a slot and a key that a program compares at once."""


# Row counts change from call to call, and a kernel specialised on them would be compiled again.


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _copy(  # type: ignore[no-untyped-def]
    rows, entries, out, count,
    SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = at < count
    source = tl.load(entries + at, mask=inside, other=0).to(tl.int64) // SLOTS
    for first in tl.static_range(0, WIDTH, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        mask = inside[:, None] & (column < WIDTH)[None, :]
        values = tl.load(rows + source[:, None] * WIDTH + column[None, :], mask=mask)
        tl.store(out + at[:, None] * WIDTH + column[None, :], values, mask=mask)


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _sum(  # type: ignore[no-untyped-def]
    rows, places, out, count,
    SLOTS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,  # noqa: N803
    WIDE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = at < count
    for first in tl.static_range(0, WIDTH, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        exists = (column < WIDTH)[None, :]
        total = tl.zeros([ROWS, COLUMNS], WIDE)
        for slot in tl.static_range(SLOTS):
            place = tl.load(places + at * SLOTS + slot, mask=inside, other=-1).to(tl.int64)
            mask = (place >= 0)[:, None] & exists
            total += tl.load(rows + place[:, None] * WIDTH + column[None, :], mask=mask, other=0).to(WIDE)
        values = total.to(out.dtype.element_ty)
        tl.store(out + at[:, None] * WIDTH + column[None, :], values, mask=inside[:, None] & exists)


@triton.jit(do_not_specialize=["slots", "blocks"])  # type: ignore[untyped-decorator]
def _count(  # type: ignore[no-untyped-def]
    keys, counts, slots, blocks,
    COUNT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + at, mask=at < slots, other=-1)
    bins = tl.arange(0, BINS)
    found = (key[:, None] == bins[None, :]).to(tl.int32)
    tl.store(counts + bins * blocks + block, tl.sum(found, axis=0), mask=bins < COUNT)


@triton.jit(do_not_specialize=["slots", "blocks"])  # type: ignore[untyped-decorator]
def _place(  # type: ignore[no-untyped-def]
    keys, ends, entries, places, slots, blocks,
    COUNT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    block = tl.program_id(0)
    at = block * BLOCK + tl.arange(0, BLOCK)
    key = tl.load(keys + at, mask=at < slots, other=-1)
    bins = tl.arange(0, BINS)
    found = (key[:, None] == bins[None, :]).to(tl.int32)
    end = tl.load(ends + bins * blocks + block, mask=bins < COUNT, other=0)
    # Slots of a key in this block end where those of the next block begin.
    start = end - tl.sum(found, axis=0)
    place = tl.sum(found * (start[None, :] + tl.cumsum(found, axis=0) - 1), axis=1)
    has_place = (key >= 0) & (key < COUNT)
    tl.store(places + at, tl.where(has_place, place, -1), mask=at < slots)
    tl.store(entries + place, at, mask=has_place)


def copies(rows: Tensor, entries: Tensor, slots: int) -> Tensor:
    """Row entries[i] // slots of contiguous rows (rows, width) for each i: (entries, width)."""
    count, width = entries.shape[0], rows.shape[1]
    out = rows.new_empty((count, width))
    at_once, columns = _tile(width)
    if out.numel():
        grid = (triton.cdiv(count, at_once),)
        _copy[grid](rows.contiguous(), entries, out, count, SLOTS=slots, WIDTH=width, ROWS=at_once, COLUMNS=columns)
    return out


def sums(rows: Tensor, places: Tensor) -> Tensor:
    """The sum of the rows (entries, width) at each row of places (rows, slots), without the negative ones, added up
    slot by slot in at least float32: (rows, width)."""
    (count, slots), width = places.shape, rows.shape[1]
    out = rows.new_empty((count, width))
    at_once, columns = _tile(width)
    wide = tl.float64 if rows.dtype == torch.float64 else tl.float32
    if out.numel():
        grid = (triton.cdiv(count, at_once),)
        _sum[grid](
            rows.contiguous(), places.contiguous(), out, count, SLOTS=slots, WIDTH=width, ROWS=at_once,
            COLUMNS=columns, WIDE=wide,
        )  # fmt: skip
    return out


def sorted_slots(keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """A counting sort of slots by keys int32 (rows, slots): entries int32 (rows * slots,), of which the first hold the
    slots with keys in range(count), and the places int32 (rows, slots) of all."""
    keys = keys.contiguous()
    slots = keys.numel()
    # Entries that no slot takes are read as rows, too.
    entries, places = keys.new_zeros(slots), torch.empty_like(keys)
    if slots:
        bins = max(triton.next_power_of_2(count), 2)
        block = min(max(_TILE // bins, 16), 256)
        blocks = triton.cdiv(slots, block)
        counts = keys.new_empty((count, blocks))
        sizes = {"COUNT": count, "BINS": bins, "BLOCK": block}
        _count[(blocks,)](keys, counts, slots, blocks, **sizes)
        ends = counts.flatten().cumsum(0, dtype=torch.int32)
        _place[(blocks,)](keys, ends, entries, places, slots, blocks, **sizes)
    return entries, places


def _tile(width: int) -> tuple[int, int]:
    """Rows and columns that a program handles at once."""
    columns = min(triton.next_power_of_2(width), _VALUES)
    return _VALUES // columns, columns
