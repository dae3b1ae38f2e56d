"""Any piece of a checkpoint's tensors, verified, without reading more into memory than the piece.

A block's digest is computed from the file once, in small parts; the values of a piece are then read where they lie in
it.
"""

from collections.abc import Sequence
from typing import Any, BinaryIO, final

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import MetadataIndex

from counterpoint.errors import CheckpointError
from counterpoint.train.state.archive import ArchivedTensor, check_archive, find_tensor
from counterpoint.train.state.checkpoint import OpenedCheckpoint
from counterpoint.train.state.manifest import BlockDigest, damaged, unreadable
from counterpoint.train.state.storage import sentence

_PART_BYTES = 2**22

Ranges = tuple[tuple[int, int], ...]
"""Where a piece lies in a tensor: start and stop for each dimension."""


@final
class PieceReader:
    """Reads pieces of the tensors of a checkpoint. `read_bytes` counts values, `verified_bytes` what was digested.

    Raises DamagedCheckpointError for a block that is not what was written.
    """

    def __init__(self, opened: OpenedCheckpoint) -> None:
        self._opened = opened
        self._files: dict[str, BinaryIO] = {}
        self._blocks: dict[MetadataIndex, tuple[BinaryIO, ArchivedTensor]] = {}
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
                part = self._part(MetadataIndex(key, chunk.offsets), ranges, shared)
                found[_within(shared, wanted)] = part
                filled += part.numel()
        if filled != found.numel():
            raise self._damaged(f"{key} is not complete")
        return found

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._blocks.clear()

    def _part(self, index: MetadataIndex, ranges: Ranges, wanted: Ranges) -> Tensor:
        """The values of a block with these ranges in others, which lie inside of it."""
        if index not in self._blocks:
            self._blocks[index] = self._verified(index, ranges)
        file, block = self._blocks[index]
        try:
            part = block.read(file.fileno(), _within(wanted, ranges))
        except EOFError:
            raise self._damaged("a file of blocks has become shorter") from None
        self.read_bytes += part.nbytes
        return part

    def _verified(self, index: MetadataIndex, ranges: Ranges) -> tuple[BinaryIO, ArchivedTensor]:
        if index not in self._places:
            raise self._damaged(f"no file holds the block of {index.fqn} at {tuple(index.offset or ())}")
        info = self._places[index]
        file = self._file(info.relative_path)
        what = f"{info.relative_path}: the block of {index.fqn} at {tuple(index.offset or ())}"
        try:
            self._check_digest(index, info, file, what)
            if self._opened.manifest is None:
                check_archive(file, info.offset, info.length)
            block = find_tensor(file, info.offset, info.length)
        except OSError as error:
            raise unreadable(self._opened.folder, info.relative_path, error, self._opened.remedy) from None
        except CheckpointError:
            raise
        except Exception as error:  # Junk in an archive raises whatever its bytes happen to spell.
            raise self._damaged(f"{what} cannot be read ({sentence(error)})") from None
        if block.shape != tuple(stop - start for start, stop in ranges):
            raise self._damaged(f"{what} has another shape")
        return file, block

    def _check_digest(self, index: MetadataIndex, info: _StorageInfo, file: BinaryIO, what: str) -> None:
        manifest = self._opened.manifest
        if manifest is None:
            return
        digest = BlockDigest(manifest.step, index.fqn, tuple(index.offset or ()))
        file.seek(info.offset)
        done = 0
        while done < info.length:
            part = file.read(min(_PART_BYTES, info.length - done))
            if not part:
                raise self._damaged(f"{what} ends after {done} of {info.length} bytes")
            digest.update(part)
            done += len(part)
        self.verified_bytes += done
        if digest.text != manifest.block_digest(info.relative_path, info.offset):
            raise self._damaged(f"{what} is not what was written")

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            try:
                self._files[name] = (self._opened.folder / name).open("rb", buffering=0)
            except OSError as error:
                raise unreadable(self._opened.folder, name, error, self._opened.remedy) from None
        return self._files[name]

    def _damaged(self, what: str) -> Exception:
        return damaged(self._opened.folder, what, self._opened.remedy)


def _within(shared: Ranges, wanted: Ranges) -> tuple[slice, ...]:
    return tuple(slice(a - c, b - c) for (a, b), (c, _d) in zip(shared, wanted, strict=True))
