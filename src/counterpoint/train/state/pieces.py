"""Any piece of a checkpoint's tensors, verified, without reading more into memory than the piece.

A block's digest is computed from the file once, in small parts; the values of a piece are then read where they lie in
it.
"""

import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import IO, Any, cast, final

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex

from counterpoint.train.state.checkpoint import OpenedCheckpoint
from counterpoint.train.state.manifest import BlockDigest, damaged, unreadable
from counterpoint.train.state.storage import sentence

_PART_BYTES = 2**22
_LOCAL_HEADER = 30
"""Bytes of an archive's entry before its name."""

Ranges = tuple[tuple[int, int], ...]
"""Where a piece lies in a tensor: start and stop for each dimension."""


@final
@dataclass(frozen=True, slots=True)
class _Block:
    """A block that is as it was written: a tensor of these strides whose values begin at a byte of a file."""

    file: int
    begin: int
    ranges: Ranges
    strides: tuple[int, ...]
    dtype: torch.dtype


@final
class PieceReader:
    """Reads pieces of the tensors of a checkpoint. `read_bytes` counts values, `verified_bytes` what was digested.

    Raises DamagedCheckpointError for a block that is not what was written.
    """

    def __init__(self, opened: OpenedCheckpoint) -> None:
        self._opened = opened
        self._files: dict[str, int] = {}
        self._blocks: dict[MetadataIndex, _Block] = {}
        self._stored: dict[str, Any] = dict(opened.metadata.state_dict_metadata)
        self._places: dict[MetadataIndex, _StorageInfo] = dict(opened.metadata.storage_data or {})
        self.read_bytes = self.verified_bytes = 0

    def read(self, key: str, place: Sequence[slice] | None) -> Tensor:
        """A piece of a tensor, or all of it, in the dtype that it is stored in."""
        stored = self._stored[key]
        slices = tuple(place) if place is not None else (slice(None),) * len(stored.size)
        wanted = tuple(one.indices(size)[:2] for one, size in zip(slices, stored.size, strict=True))
        found = torch.empty([stop - start for start, stop in wanted], dtype=stored.properties.dtype)
        filled = 0
        for chunk in stored.chunks:
            ranges = tuple((o, o + n) for o, n in zip(chunk.offsets, chunk.sizes, strict=True))
            shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(wanted, ranges, strict=True))
            if all(start < stop for start, stop in shared):
                part = self._part(self._block(MetadataIndex(key, chunk.offsets), ranges), shared)
                found[_within(shared, wanted)] = part
                filled += part.numel()
        if filled != found.numel():
            raise self._damaged(f"{key} is not complete")
        return found

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()
        self._blocks.clear()

    def _part(self, block: _Block, wanted: Ranges) -> Tensor:
        """The values of one block in these ranges, which lie inside of it."""
        inside = tuple((a - c, b - c) for (a, b), (c, _d) in zip(wanted, block.ranges, strict=True))
        shape = [stop - start for start, stop in block.ranges]
        if list(block.strides) != _dense(shape):
            extent = 1 + sum((size - 1) * stride for size, stride in zip(shape, block.strides, strict=True))
            values = self._values(block, 0, extent).as_strided(shape, block.strides)
            return values[tuple(slice(*one) for one in inside)]
        # Down to the first dimension of which more than one index is wanted, a single run of values holds them all.
        lead = next((dim for dim, (start, stop) in enumerate(inside) if stop - start > 1), max(len(shape) - 1, 0))
        if not shape:
            return self._values(block, 0, 1).reshape(())
        first = sum(start * stride for (start, _stop), stride in zip(inside[: lead + 1], block.strides, strict=False))
        rows = inside[lead][1] - inside[lead][0]
        values = self._values(block, first, rows * block.strides[lead])
        found = values.reshape(*(1,) * lead, rows, *shape[lead + 1 :])
        for dim, (start, stop) in enumerate(inside[lead + 1 :], start=lead + 1):
            found = found.narrow(dim, start, stop - start)
        return found

    def _values(self, block: _Block, first: int, count: int) -> Tensor:
        size = block.dtype.itemsize
        data = bytearray(count * size)
        filled = _read_into(block.file, memoryview(data), block.begin + first * size)
        if filled != len(data):
            raise self._damaged("a file of blocks has become shorter")
        self.read_bytes += filled
        return torch.frombuffer(data, dtype=block.dtype) if data else torch.empty(0, dtype=block.dtype)

    def _block(self, index: MetadataIndex, ranges: Ranges) -> _Block:
        if index not in self._blocks:
            self._blocks[index] = self._verified(index, ranges)
        return self._blocks[index]

    def _verified(self, index: MetadataIndex, ranges: Ranges) -> _Block:
        if index not in self._places:
            raise self._damaged(f"no file holds the block of {index.fqn} at {tuple(index.offset or ())}")
        info = self._places[index]
        file = self._file(info.relative_path)
        what = f"{info.relative_path}: the block of {index.fqn} at {tuple(index.offset or ())}"
        try:
            self._check_digest(index, info, file, what)
            archive = _Stream(file, info.offset, info.length)
            tensor, begin = _stored_values(archive, is_checked=self._opened.manifest is not None)
        except OSError as error:
            raise unreadable(self._opened.folder, info.relative_path, error, self._opened.remedy) from None
        except (ValueError, RuntimeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(f"{what} cannot be read ({sentence(error)})") from None
        if tuple(tensor.shape) != tuple(stop - start for start, stop in ranges):
            raise self._damaged(f"{what} has another shape")
        begin += info.offset + int(tensor.storage_offset()) * tensor.dtype.itemsize
        return _Block(file, begin, ranges, tuple(tensor.stride()), tensor.dtype)

    def _check_digest(self, index: MetadataIndex, info: _StorageInfo, file: int, what: str) -> None:
        manifest = self._opened.manifest
        if manifest is None:
            return
        digest = BlockDigest(manifest.step, index.fqn, tuple(index.offset or ()))
        part = memoryview(bytearray(min(_PART_BYTES, max(info.length, 1))))
        done = 0
        while done < info.length:
            count = _read_into(file, part[: min(len(part), info.length - done)], info.offset + done)
            if not count:
                raise self._damaged(f"{what} ends after {done} of {info.length} bytes")
            digest.update(part[:count])
            done += count
        self.verified_bytes += done
        if digest.text != manifest.block_digest(info.relative_path, info.offset):
            raise self._damaged(f"{what} is not what was written")

    def _file(self, name: str) -> int:
        if name not in self._files:
            try:
                self._files[name] = os.open(self._opened.folder / name, os.O_RDONLY)
            except OSError as error:
                raise unreadable(self._opened.folder, name, error, self._opened.remedy) from None
        return self._files[name]

    def _damaged(self, what: str) -> Exception:
        return damaged(self._opened.folder, what, self._opened.remedy)


def _stored_values(archive: "_Stream", *, is_checked: bool) -> tuple[Tensor, int]:
    """The tensor that an archive of torch holds, without its values, and the byte of the archive where these begin."""
    with zipfile.ZipFile(archive) as entries:
        if not is_checked and (wrong := entries.testzip()) is not None:
            raise zipfile.BadZipFile(f"{wrong} does not have its checksum")
        (entry,) = (one for one in entries.infolist() if one.filename.endswith("/data/0"))
    if entry.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile("values are compressed")
    archive.seek(entry.header_offset)
    head = archive.read(_LOCAL_HEADER)
    begin = entry.header_offset + _LOCAL_HEADER + int.from_bytes(head[26:28], "little")
    begin += int.from_bytes(head[28:30], "little")
    archive.seek(0)
    with torch.serialization.skip_data():
        tensor = torch.load(cast(IO[bytes], archive), map_location="cpu", weights_only=True)
    if not isinstance(tensor, Tensor):
        raise ValueError("is no tensor")
    return tensor, begin


def _dense(shape: Sequence[int]) -> list[int]:
    """The strides of a contiguous tensor."""
    return [prod(shape[dim + 1 :]) for dim in range(len(shape))]


def _within(shared: Ranges, wanted: Ranges) -> tuple[slice, ...]:
    return tuple(slice(a - c, b - c) for (a, b), (c, _d) in zip(shared, wanted, strict=True))


def _read_into(file: int, buffer: memoryview, offset: int) -> int:
    done = 0
    while done < len(buffer):
        count = os.preadv(file, [buffer[done:]], offset + done)
        if not count:
            break
        done += count
    return done


@final
class _Stream(io.RawIOBase):
    """A part of a file as a file of its own, for readers of archives."""

    def __init__(self, file: int, offset: int, length: int) -> None:
        self._file, self._offset, self._length, self._at = file, offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = _read_into(self._file, view[: max(min(len(view), self._length - self._at), 0)], self._offset + self._at)
        self._at += count
        return count
