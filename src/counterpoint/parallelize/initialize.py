"""Initial values independent of the layout: each element is a function of (seed, name, index).

The arithmetic is exact integer work up to one multiplication, so a value has the same bits in every block, on
every device and in every version of torch.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from counterpoint.kinds.rules import Initial
from counterpoint.parallelize.blocks import Block

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST_FACTOR = 0xBF58476D1CE4E5B9
_SECOND_FACTOR = 0x94D049BB133111EB
"""The constants of splitmix64 (Steele, Lea and Flood, 2014)."""

_DRAWS_PER_ELEMENT = 2
_DIGITS_PER_DRAW = 4
_DIGIT_BITS = 16
_UNUSED_BITS = 12
"""Low bits of a draw that a float64 between 0 and 1 cannot hold."""

_ELEMENTS_AT_ONCE = 1 << 20


def initialize_(
    local: Tensor,
    block: Block,
    seed: int,
    module: str,
    residual_sums: int,
    rules: Sequence[Initial],
) -> None:
    """Fill a local tensor, in place, with the initial values of its block and zeros in its padding.

    `block.name` is the parameter's name in `module`; both are hashed, so equal names in two modules differ. The first
    of the `rules` that fits the name decides.
    """
    initial = next(rule for rule in rules if fnmatchcase(block.name, rule.pattern))
    std = initial.std_at(residual_sums)
    local.zero_()
    inside = local[block.local_slices]
    if initial.of_place is not None:
        inside.copy_(_of_place(initial.of_place, block))
        return
    if std == 0.0 and initial.of_uniform is None:
        inside.fill_(initial.mean)
        return
    key = _key(seed, f"{module}.{block.name}")
    if initial.of_uniform is not None:
        # On the CPU, element by element with the C library's functions: there are a number or two per head.
        shares = _uniform(key, _indices(block, 0, inside.cpu())).tolist()
        inside.copy_(torch.tensor([initial.of_uniform(share) for share in shares], dtype=torch.float64))
        return
    for start in range(0, inside.shape[0], _rows_at_once(block)):
        piece = inside[start : start + _rows_at_once(block)]
        piece.copy_(initial.mean + std * _standard_normal(key, _indices(block, start, piece)))


def _of_place(function: Callable[[int, int, int], float], block: Block) -> Tensor:
    """A block of a matrix, float64, computed element by element with the C library's functions."""
    (first, left), (rows, columns) = block.offset, block.shape
    width = block.global_shape[1]
    places = ((row, column) for row in range(first, first + rows) for column in range(left, left + columns))
    values = [function(row, column, width) for row, column in places]
    return torch.tensor(values, dtype=torch.float64).view(rows, columns)


def initialize_buffer_(buffer: Tensor, name: str) -> None:
    """Fill a buffer of a module, in place: variances with one, everything else with zero."""
    buffer.fill_(1.0 if name.endswith(".variance") else 0.0)


def _rows_at_once(block: Block) -> int:
    return max(1, _ELEMENTS_AT_ONCE // max(1, math.prod(block.shape[1:])))


def _indices(block: Block, start: int, piece: Tensor) -> Tensor:
    """The global, row-major element indices of a slab of the block that begins at its row `start`."""
    offsets = (block.offset[0] + start, *block.offset[1:])
    total = torch.zeros((), dtype=torch.int64, device=piece.device)
    for dim, (offset, extent) in enumerate(zip(offsets, piece.shape, strict=True)):
        stride = math.prod(block.global_shape[dim + 1 :])
        steps = torch.arange(offset, offset + extent, device=piece.device) * stride
        total = total[..., None] + steps
    return total


def _key(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "little")


def _uniform(key: int, indices: Tensor) -> Tensor:
    """Float64 values in (0, 1) for int64 element indices."""
    bits = _splitmix(indices * _DRAWS_PER_ELEMENT, key) >> _UNUSED_BITS & (2 ** (64 - _UNUSED_BITS) - 1)
    shares: Tensor = (bits.double() + 0.5) * 2.0 ** -(64 - _UNUSED_BITS)
    return shares


def _standard_normal(key: int, indices: Tensor) -> Tensor:
    """Float64 values of mean 0 and variance 1 for int64 element indices.

    A sum of eight 16-bit digits is close to normal out to 4 standard deviations, and unlike Box-Muller it
    needs no function that differs by a last bit between devices.
    """
    total = torch.zeros_like(indices)
    for draw in range(_DRAWS_PER_ELEMENT):
        bits = _splitmix(indices * _DRAWS_PER_ELEMENT + draw, key)
        for digit in range(_DIGITS_PER_DRAW):
            total += (bits >> (digit * _DIGIT_BITS)) & (2**_DIGIT_BITS - 1)
    digits = _DRAWS_PER_ELEMENT * _DIGITS_PER_DRAW
    mean = digits * (2**_DIGIT_BITS - 1) / 2
    std = math.sqrt(digits * (4**_DIGIT_BITS - 1) / 12)
    normal: Tensor = (total.double() - mean) * (1.0 / std)
    return normal


def _splitmix(counter: Tensor, key: int) -> Tensor:
    """The outputs number `counter` of the splitmix64 stream that starts at `key`; int64 wraps as it must."""
    mixed = (counter + 1) * _signed(_GOLDEN) + _signed(key)
    mixed = (mixed ^ _shift_right(mixed, 30)) * _signed(_FIRST_FACTOR)
    mixed = (mixed ^ _shift_right(mixed, 27)) * _signed(_SECOND_FACTOR)
    last: Tensor = mixed ^ _shift_right(mixed, 31)
    return last


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Shift in zeros; torch's own shift of int64 copies the sign."""
    shifted: Tensor = (bits >> places) & (2 ** (64 - places) - 1)
    return shifted


def _signed(word: int) -> int:
    """The int64 that has the bits of an unsigned 64-bit word."""
    return word - 2**64 if word >= 2**63 else word
