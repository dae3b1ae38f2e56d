"""A step's inputs on their way from one process to another: tensors travel in shared memory that has no name.

Nothing is left of it once both processes have ended, however they end.
"""

import io
import mmap
import os
import pickle
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

_ALIGNED = 64
"""Bytes to whose multiples tensors are aligned."""


class Cargo(NamedTuple):
    """A value in the memory behind `handle`, a file descriptor: its pickle, and after it its tensors, all of these
    `lengths` in bytes."""

    handle: int
    lengths: tuple[int, ...]


def load_cargo(value: object) -> Cargo:
    """Lay a value into shared memory; whoever takes the handle closes it."""
    buffers: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, buffers.append).dump(value)
    parts = [stream.getbuffer(), *(buffer.raw() for buffer in buffers)]
    lengths = tuple(len(part) for part in parts)
    handle = os.memfd_create("counterpoint step")
    try:
        *starts, size = _starts(lengths)
        os.ftruncate(handle, size)
        for start, part in zip(starts, parts, strict=True):
            _write(handle, part, start)
    except BaseException:
        os.close(handle)
        raise
    return Cargo(handle, lengths)


def unload_cargo(cargo: Cargo) -> Any:
    """The value; its tensors stay in the shared memory, which lives as long as they do. Closes the handle."""
    try:
        *starts, size = _starts(cargo.lengths)
        memory = memoryview(mmap.mmap(cargo.handle, size))
    finally:
        os.close(cargo.handle)
    stream, *buffers = (memory[start : start + length] for start, length in zip(starts, cargo.lengths, strict=True))
    return pickle.loads(stream, buffers=buffers)


def _write(handle: int, part: memoryview, start: int) -> None:
    while part:
        written = os.pwrite(handle, part, start)
        part, start = part[written:], start + written


def _starts(lengths: tuple[int, ...]) -> list[int]:
    """Where each part begins, and where the last one ends, at least one byte after the beginning."""
    aligned = (-(-max(length, 1) // _ALIGNED) * _ALIGNED for length in lengths)
    return list(accumulate(aligned, initial=0))


class _Pickler(pickle.Pickler):
    """Keeps the bytes of tensors out of the pickle."""

    def __init__(self, stream: io.BytesIO, keep: Callable[[pickle.PickleBuffer], None]) -> None:
        super().__init__(stream, protocol=5, buffer_callback=keep)

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, Tensor):
            return NotImplemented
        flat = value.contiguous().reshape(-1)
        # A tensor of one element is contiguous whatever its stride, but is viewed as bytes only with a stride of 1.
        data: Any = flat.as_strided(flat.shape, (1,)).view(torch.uint8).numpy()
        return _tensor, (pickle.PickleBuffer(data), value.dtype, tuple(value.shape))


def _tensor(data: memoryview, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    if not len(data):
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype).reshape(shape)
