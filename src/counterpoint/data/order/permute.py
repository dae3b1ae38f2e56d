"""A keyed bijection of [0, size), from positions in an epoch to documents, without a table.

A balanced Feistel network (Luby and Rackoff 1988) over the next power of four, walked along its cycles until
the value falls inside the range (Black and Rogaway 2002).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from counterpoint.kinds.arrays import Ints

ROUNDS = 6
Words = NDArray[np.uint64]


def permute(positions: Ints, size: int, key: tuple[int, ...]) -> Ints:
    """Map `positions` (n,) in [0, size) by the bijection of `key` to (n,)."""
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = _round_keys(key)
    values = _feistel(positions.astype(np.uint64), half_bits, keys)
    outside = np.flatnonzero(values >= size)
    while outside.size:
        values[outside] = _feistel(values[outside], half_bits, keys)
        outside = outside[values[outside] >= size]
    return values.astype(np.int64)


def _feistel(values: Words, half_bits: int, keys: Words) -> Words:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


def _mix(values: Words) -> Words:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014); array arithmetic wraps modulo 2**64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _round_keys(key: tuple[int, ...]) -> Words:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8 * ROUNDS).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)
