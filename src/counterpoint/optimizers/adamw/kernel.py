"""A GPU kernel that updates all shards of a rank at once with AdamW, and reads and writes each number once.

Torch's fused kernel takes neither moments nor gradients of another dtype, and writes scaled gradients back. This file
imports Triton, which comes with torch for GPUs, so import it only where a GPU is in use.
"""

from collections.abc import Sequence
from typing import final

import torch
import triton
import triton.language as tl
from torch import Tensor

from counterpoint.optimizers.adamw.one_pass import Scalars, State
from counterpoint.optimizers.adamw.rounding import FIRST_FACTOR, GOLDEN, SECOND_FACTOR
from counterpoint.optimizers.adamw.spec import AdamWSection

_BLOCK = 4096
_WARPS = 8
_EVEN = tl.constexpr(16)
"""Bytes of the widest loads and stores, which need addresses that it divides."""

_FIRST = tl.constexpr(FIRST_FACTOR)
_SECOND = tl.constexpr(SECOND_FACTOR)
_GOLDEN = tl.constexpr(GOLDEN)

_VALUES, _MEAN, _SQUARE = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
_ELEMENTS, _FIRST_BLOCK, _KEY = tl.constexpr(3), tl.constexpr(4), tl.constexpr(5)
_BASE, _MIDDLE, _INNER = tl.constexpr(6), tl.constexpr(7), tl.constexpr(8)
_OUTER_STRIDE, _MIDDLE_STRIDE, _INNER_STRIDE = tl.constexpr(9), tl.constexpr(10), tl.constexpr(11)
_ROUNDED = tl.constexpr(12)
_COLUMNS = tl.constexpr(13)
"""The columns of the table of tensors; an address of 0 stands for none."""


@final
class KernelPass:
    """The update of all shards in one launch; the host waits for nothing."""

    def __init__(self, section: AdamWSection, states: Sequence[State]) -> None:
        values, mean = states[0].values, states[0].mean
        assert all(state.values.is_contiguous() and state.values.numel() < 2**31 for state in states)
        self._states, device = states, values.device
        self._wide = tl.float64 if values.dtype == torch.float64 else tl.float32
        self._rounds = mean.dtype != values.dtype
        blocks = [triton.cdiv(state.values.numel(), _BLOCK) for state in states]
        starts = torch.tensor([0, *blocks]).cumsum(0).tolist()
        rows = [_row(state, start) for state, start in zip(states, starts, strict=False)]
        self._owners = torch.arange(len(states), dtype=torch.int32).repeat_interleave(torch.tensor(blocks)).to(device)
        self._table = torch.tensor(rows, dtype=torch.int64).to(device)
        self._decays = torch.tensor([state.decay for state in states], dtype=torch.float64).to(device)
        self._settings = torch.tensor([*section.betas, section.eps], dtype=torch.float64).to(device)
        self._listed: list[int] = []
        self._gradients = torch.empty(0, dtype=torch.int64)

    def __call__(self, gradients: Sequence[Tensor], scalars: Scalars) -> None:
        readable = (torch.bfloat16, self._states[0].values.dtype)
        gradients = [(one if one.dtype in readable else one.to(readable[-1])).contiguous() for one in gradients]
        # Of each gradient the address, and whether it is in bfloat16.
        listed = [number for one in gradients for number in (one.data_ptr(), int(one.dtype != readable[-1]))]
        # Gradients often get the memory that they had in the step before.
        if listed != self._listed:
            device = self._table.device
            pinned = torch.tensor(listed, dtype=torch.int64, pin_memory=device.type == "cuda")
            self._gradients = pinned.to(device, non_blocking=True)
            self._listed = listed
        _update[(len(self._owners),)](
            self._owners, self._table, self._decays, self._gradients, self._settings, torch.stack(scalars),
            WIDE=self._wide, ROUNDS=self._rounds, BLOCK=_BLOCK, num_warps=_WARPS,
        )  # fmt: skip


def _row(state: State, first_block: int) -> list[int]:
    places = state.places
    addresses = [tensor.data_ptr() for tensor in (state.values, state.mean, state.square)]
    rounded = 0 if state.rounded is None else state.rounded.data_ptr()
    return [
        *addresses, state.values.numel(), first_block, state.key, places.base, *places.extents[1:], *places.strides,
        rounded,
    ]  # fmt: skip


@triton.jit  # type: ignore[untyped-decorator]
def _update(  # type: ignore[no-untyped-def]
    owners, table, decays, gradients, settings, scalars,
    WIDE: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    owner = tl.load(owners + tl.program_id(0))
    row = table + owner * _COLUMNS
    elements, of_gradient = tl.load(row + _ELEMENTS).to(tl.int32), tl.load(gradients + 2 * owner)
    is_narrow = tl.load(gradients + 2 * owner + 1)
    start = (tl.program_id(0) - tl.load(row + _FIRST_BLOCK).to(tl.int32)) * BLOCK
    addresses = tl.load(row + _VALUES) | tl.load(row + _MEAN) | tl.load(row + _SQUARE)
    addresses |= of_gradient | tl.load(row + _ROUNDED)
    if tl.load(scalars) == 0:
        decay = tl.load(decays + owner)
        # Whole blocks at even addresses are read and written without a mask, in the widest words.
        if (addresses % _EVEN == 0) & (start + BLOCK <= elements):
            if is_narrow != 0:
                _update_block(
                    row, of_gradient, decay, settings, scalars, start, elements, WIDE, ROUNDS, BLOCK, tl.bfloat16, True
                )
            else:
                _update_block(
                    row, of_gradient, decay, settings, scalars, start, elements, WIDE, ROUNDS, BLOCK, WIDE, True
                )
        elif is_narrow != 0:
            _update_block(
                row, of_gradient, decay, settings, scalars, start, elements, WIDE, ROUNDS, BLOCK, tl.bfloat16, False
            )
        else:
            _update_block(row, of_gradient, decay, settings, scalars, start, elements, WIDE, ROUNDS, BLOCK, WIDE, False)


@triton.jit  # type: ignore[untyped-decorator]
def _update_block(  # type: ignore[no-untyped-def]
    row, of_gradient, decay, settings, scalars, start, elements,
    WIDE: tl.constexpr, ROUNDS: tl.constexpr, BLOCK: tl.constexpr, GIVEN: tl.constexpr, WHOLE: tl.constexpr,  # noqa: N803
):  # fmt: skip
    moment: tl.constexpr = tl.bfloat16 if ROUNDS else WIDE
    values_at = tl.load(row + _VALUES).to(tl.pointer_type(WIDE))
    gradient_at = of_gradient.to(tl.pointer_type(GIVEN))
    mean_at = tl.load(row + _MEAN).to(tl.pointer_type(moment))
    square_at = tl.load(row + _SQUARE).to(tl.pointer_type(moment))
    of_rounded = tl.load(row + _ROUNDED)
    rounded_at = of_rounded.to(tl.pointer_type(tl.bfloat16))
    at = start + tl.arange(0, BLOCK)
    inside = None if WHOLE else at < elements
    if WHOLE:
        values_at, gradient_at = tl.multiple_of(values_at, _EVEN), tl.multiple_of(gradient_at, _EVEN)
        mean_at, square_at = tl.multiple_of(mean_at, _EVEN), tl.multiple_of(square_at, _EVEN)
        rounded_at = tl.multiple_of(rounded_at, _EVEN)
    values = tl.load(values_at + at, mask=inside)
    gradient = tl.load(gradient_at + at, mask=inside).to(WIDE)
    mean = tl.load(mean_at + at, mask=inside).to(WIDE)
    square = tl.load(square_at + at, mask=inside).to(WIDE)
    beta, beta_of_square = tl.load(settings), tl.load(settings + 1)
    gradient = gradient * tl.load(scalars + 1).to(WIDE)
    # The complements are taken in float64, as on a CPU.
    mean += (gradient - mean) * (1.0 - beta).to(WIDE)
    square += (gradient * gradient - square) * (1.0 - beta_of_square).to(WIDE)
    values *= (1.0 - tl.load(scalars + 2) * decay).to(WIDE)
    divisor = tl.sqrt(square) * tl.load(scalars + 4).to(WIDE) + tl.load(settings + 2).to(WIDE)
    values -= tl.load(scalars + 3).to(WIDE) * (mean / divisor)
    tl.store(values_at + at, values, mask=inside)
    if of_rounded != 0:
        tl.store(rounded_at + at, values.to(tl.bfloat16), mask=inside)
    if ROUNDS:
        bits = _random_bits(row, at, tl.load(scalars + 5))
        tl.store(mean_at + at, _rounded(mean, bits), mask=inside)
        tl.store(square_at + at, _rounded(square, bits >> 16), mask=inside)
    else:
        tl.store(mean_at + at, mean, mask=inside)
        tl.store(square_at + at, square, mask=inside)


@triton.jit
def _random_bits(row, at, updates):  # type: ignore[no-untyped-def]
    """As `rounding.random_bits`."""
    middle, inner = tl.load(row + _MIDDLE).to(tl.int32), tl.load(row + _INNER).to(tl.int32)
    outer_stride, middle_stride = tl.load(row + _OUTER_STRIDE), tl.load(row + _MIDDLE_STRIDE)
    index = at.to(tl.int64)
    if (outer_stride > 0) | (middle_stride > 0):
        # In 32 bits: whole numbers of 64 are divided several times slower.
        rest = at // inner
        index = (at % inner).to(tl.int64) * tl.load(row + _INNER_STRIDE)
        index += (rest % middle).to(tl.int64) * middle_stride + (rest // middle).to(tl.int64) * outer_stride
    index += tl.load(row + _BASE)
    folded = index.to(tl.uint32) + (index >> 32).to(tl.uint32) * _GOLDEN
    seed = _mixed(tl.load(row + _KEY).to(tl.uint32) + updates.to(tl.int64).to(tl.uint32) * _GOLDEN)
    return _mixed(folded ^ seed)


@triton.jit
def _mixed(word):  # type: ignore[no-untyped-def]
    word = (word ^ (word >> 16)) * _FIRST
    word = (word ^ (word >> 15)) * _SECOND
    return word ^ (word >> 16)


@triton.jit
def _rounded(values, bits):  # type: ignore[no-untyped-def]
    """As `rounding.rounded`."""
    exact = values.to(tl.float32).to(tl.uint32, bitcast=True)
    kept = (exact + (bits & 0xFFFF)) & 0xFFFF0000
    return kept.to(tl.float32, bitcast=True).to(tl.bfloat16)
