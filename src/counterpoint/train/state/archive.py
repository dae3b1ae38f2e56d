"""Where the elements of a tensor lie in the archive that `torch.save` makes of it; no object in it is built."""

import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, BinaryIO

import torch
from torch import Tensor

from counterpoint.convert.links import Place

_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""The fixed part of a member's header in a ZIP file; its last two numbers are the lengths of what follows."""


@dataclass(frozen=True, slots=True)
class ArchivedTensor:
    """A tensor in a file: its elements from byte `start` on, of which `strides` (in elements) say the order."""

    start: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, descriptor: int, place: Place) -> Tensor:
        """A piece of the tensor, which reads no other element if the tensor is contiguous; raises EOFError."""
        if not self._is_contiguous:
            return self._spread(descriptor)[place]
        lengths = tuple(one.stop - one.start for one in place)
        data = bytearray(math.prod(lengths) * self.dtype.itemsize)
        if not data:
            return torch.empty(lengths, dtype=self.dtype)
        run, begins = self._runs(place, lengths)
        view, size = memoryview(data), run * self.dtype.itemsize
        for number, begin in enumerate(begins):
            read_into(descriptor, view[number * size : (number + 1) * size], self.start + begin * self.dtype.itemsize)
        return torch.frombuffer(data, dtype=self.dtype).view(lengths)

    @property
    def _is_contiguous(self) -> bool:
        """Whether the elements lie row by row."""
        expected = 1
        for size, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= max(size, 1)
        return True

    def _runs(self, place: Place, lengths: tuple[int, ...]) -> tuple[int, Iterator[int]]:
        """How many elements lie behind each other, and at which element each such run begins."""
        split = len(self.shape)
        while split and lengths[split - 1] == self.shape[split - 1]:
            split -= 1
        # The dimension before those that are read whole is read in one run as well.
        split = max(split - 1, 0)
        run = math.prod(lengths[split:])
        first = sum(one.start * stride for one, stride in zip(place[split:], self.strides[split:], strict=True))
        outer = [
            [index * stride for index in range(one.start, one.stop)]
            for one, stride in zip(place[:split], self.strides[:split], strict=True)
        ]
        return run, (first + sum(offsets) for offsets in product(*outer))

    def _spread(self, descriptor: int) -> Tensor:
        """All of a tensor whose elements lie in another order."""
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        span = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        data = bytearray(span * self.dtype.itemsize)
        read_into(descriptor, memoryview(data), self.start)
        return torch.frombuffer(data, dtype=self.dtype).as_strided(self.shape, self.strides)


def read_into(descriptor: int, view: memoryview, position: int) -> None:
    """Fill a view with the bytes of a file from a position on; raises EOFError if the file ends before."""
    while view:
        count = os.preadv(descriptor, [view], position)
        if not count:
            raise EOFError("the file ends too early")
        view, position = view[count:], position + count


def find_tensor(file: BinaryIO, start: int, length: int) -> ArchivedTensor:
    """The tensor in the archive of `length` bytes at byte `start`; reads its directory and its description alone.

    Junk raises whatever its bytes happen to spell.
    """
    with zipfile.ZipFile(_Window(file, start, length)) as archive:
        (described,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = described.removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("its numbers have another order of bytes")
        array = _DescriptionUnpickler(io.BytesIO(archive.read(described))).load()
        if not isinstance(array, _Described):
            raise TypeError(f"it is a {type(array).__name__}")
        member = archive.getinfo(f"{root}data/{array.storage.key}")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("it is compressed")
    file.seek(start + member.header_offset)
    *_fields, name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    first = start + member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    span = 1 + sum((size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True))
    if math.prod(array.shape) and (array.offset + span) * array.dtype.itemsize > member.file_size:
        raise ValueError("it has fewer elements than its shape says")
    at = first + array.offset * array.dtype.itemsize
    return ArchivedTensor(at, array.dtype, array.shape, array.strides)


def check_archive(file: BinaryIO, start: int, length: int) -> None:
    """Raise BadZipFile unless all of an archive agrees with its checksums."""
    with zipfile.ZipFile(_Window(file, start, length)) as archive:
        name = archive.testzip()
    if name is not None:
        raise zipfile.BadZipFile(f"{name} does not have its checksum")


@dataclass(frozen=True, slots=True)
class _Storage:
    """The elements of a tensor as its description names them; without a dtype they are bytes."""

    dtype: torch.dtype | None
    key: str


@dataclass(frozen=True, slots=True)
class _Described:
    """A tensor as its description spells it; the offset and the strides count elements."""

    storage: _Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _described(storage: _Storage, offset: int, shape: Any, strides: Any, *more: Any) -> _Described:
    dtype = storage.dtype if storage.dtype is not None else more[2]
    sizes, steps = tuple(shape), tuple(strides)
    if not all(isinstance(one, int) and one >= 0 for one in (offset, *sizes, *steps)) or len(sizes) != len(steps):
        raise ValueError("its shape or its strides make no sense")
    return _Described(storage, dtype, offset, sizes, steps)


def _parameter(data: _Described, *_more: Any) -> _Described:
    return data


_BUILDERS = {
    ("torch._utils", "_rebuild_tensor_v2"): _described,
    ("torch._utils", "_rebuild_tensor_v3"): _described,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch.storage", "UntypedStorage"): None,
}
"""What stands in for the functions and types that a description names."""


class _DescriptionUnpickler(pickle.Unpickler):
    """Turns the description of a tensor into a record; one of anything else raises UnpicklingError."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        if (module, name) in _BUILDERS:
            return _BUILDERS[module, name]
        raise pickle.UnpicklingError(f"names {module}.{name}, which no plain tensor is made of")

    def persistent_load(self, named: Any) -> _Storage:
        kind, dtype, key, *_more = named
        if kind != "storage" or not isinstance(key, str):
            raise pickle.UnpicklingError("refers to something else than elements")
        return _Storage(dtype, key)


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file, self._start, self._length, self._position = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if origin + offset < 0:
            raise OSError("before the beginning")
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._position)
        data = self._file.read(max(min(len(buffer), self._length - self._position), 0))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
