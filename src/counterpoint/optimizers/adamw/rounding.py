"""Stochastic rounding to bfloat16 that is the same in every layout.

Rounded to the nearest bfloat16, a running mean stands still where a step changes it by less than half of its last bit
(0.2 to 0.4 %): with a decay rate of 0.999 it would never fall. Rounded up or down at random, with probabilities by the
distances, it is right on average (Gupta et al., 2015, arXiv:1502.02551). The random bits are a hash of the parameter's
name, the step and the element's place in the whole parameter, so all layouts and resumed runs round alike.
"""

import hashlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

from counterpoint.optimizers.shard import Shard

WORD = 2**32 - 1
GOLDEN = 0x9E3779B9
"""2^32 over the golden ratio."""
FIRST_FACTOR, SECOND_FACTOR = 0x7FEB352D, 0x846CA68B
"""The constants of lowbias32 (Wellons, 2018, https://nullprogram.com/blog/2018/07/31)."""

LEVELS = 3
"""Most cut dims of a parameter: experts over ep, over etp and over edp."""

_DROPPED_BITS = 16
"""Bits of a float32 that a bfloat16 lacks."""


class Places(NamedTuple):
    """Where the elements of a local tensor are in the whole parameter, row-major: `base` + the sum over three levels,
    from the outermost, of (index in the level x its stride). The local tensor has `extents` elements a level."""

    base: int
    extents: tuple[int, int, int]
    strides: tuple[int, int, int]


def places_of(shard: Shard) -> Places:
    """The places of a shard's local tensor; those of padding mean nothing."""
    local = tuple(shard.values.shape)
    strides = [math.prod(shard.whole[dim + 1 :]) for dim in range(len(shard.whole))]
    base = sum(offset * stride for offset, stride in zip(shard.piece.offset, strides, strict=True))
    levels: list[tuple[int, int]] = []
    for extent, stride in zip(local, strides, strict=True):
        if levels and levels[-1][1] == extent * stride:
            levels[-1] = (levels[-1][0] * extent, stride)
        elif extent > 1:
            levels.append((extent, stride))
    assert len(levels) <= LEVELS, f"{shard.name} is cut in more dims than ep, etp and edp cut"
    outer = [(1, 0)] * (LEVELS - len(levels))
    first, second, third = (*outer, *levels)
    return Places(base, (first[0], second[0], third[0]), (first[1], second[1], third[1]))


def key_of(name: str) -> int:
    """The 32 bits that stand for a parameter's name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "little")


def random_bits(places: Places, key: int, step: int) -> Tensor:
    """32 random bits for each element of a local tensor, int64 (elements,), for an update counted from 1."""
    index = torch.full((), places.base)
    for extent, stride in zip(places.extents, places.strides, strict=True):
        index = index[..., None] + torch.arange(extent) * stride
    index = index.reshape(-1)
    seed = _mixed(torch.tensor((key + step * GOLDEN) & WORD))
    return _mixed((((index & WORD) + (index >> 32) * GOLDEN) & WORD) ^ seed)


def rounded(values: Tensor, bits: Tensor) -> Tensor:
    """Values, float32 or float64, as bfloat16; of `bits`, integers, the low 16 decide which neighbour is taken."""
    exact = values.to(torch.float32).view(torch.int32)
    random = (bits & (2**_DROPPED_BITS - 1)).to(torch.int32).view(values.shape)
    # A float's bits count upwards with its size, so a carry goes to the next larger bfloat16.
    kept = (exact + random) & -(2**_DROPPED_BITS)
    neighbours: Tensor = kept.view(torch.float32).to(torch.bfloat16)
    return neighbours


def _mixed(word: Tensor) -> Tensor:
    """lowbias32 of 32-bit words in int64."""
    word = ((word ^ (word >> 16)) * FIRST_FACTOR) & WORD
    word = ((word ^ (word >> 15)) * SECOND_FACTOR) & WORD
    mixed: Tensor = word ^ (word >> 16)
    return mixed
