"""The tensors of a torch.distributed.checkpoint folder, of which any piece can be read alone."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import final

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex

from counterpoint.convert.links import Place
from counterpoint.train.state.archive import ArchivedTensor, check_archive, find_tensor
from counterpoint.train.state.manifest import damaged, unreadable
from counterpoint.train.state.metadata import tensors_in
from counterpoint.train.state.storage import sentence


@final
class StoredTensors:
    """Tensors by key, each in blocks that lie in files of the folder. No object in a file is built.

    Messages end in `remedy`. What is read is not compared with digests.
    """

    def __init__(self, folder: Path, metadata: Metadata, remedy: str) -> None:
        self.folder, self._remedy = folder, remedy
        self._stored, self._metadata = tensors_in(metadata), metadata
        self.shapes = {key: tuple(one.size) for key, one in self._stored.items()}
        self.dtypes = {key: one.properties.dtype for key, one in self._stored.items()}
        self.others = frozenset(metadata.state_dict_metadata.keys() - self._stored.keys())
        """Keys of values that are no tensors."""
        self._found: dict[tuple[str, int], ArchivedTensor] = {}

    def read(self, key: str, place: Place | None) -> Tensor:
        """A piece of a tensor, or all of it, in the dtype that it is stored in; raises DamagedCheckpointError."""
        shape = self.shapes[key]
        wanted = [one.indices(size)[:2] for one, size in zip(place or (slice(None),) * len(shape), shape, strict=True)]
        whole = torch.empty([stop - start for start, stop in wanted], dtype=self.dtypes[key])
        count = 0
        for chunk in self._stored[key].chunks:
            spans = [
                (max(start, offset), min(stop, offset + size))
                for (start, stop), offset, size in zip(wanted, chunk.offsets, chunk.sizes, strict=True)
            ]
            if all(start < stop for start, stop in spans):
                there = tuple(
                    slice(a - offset, b - offset) for (a, b), offset in zip(spans, chunk.offsets, strict=True)
                )
                here = tuple(slice(a - start, b - start) for (a, b), (start, _stop) in zip(spans, wanted, strict=True))
                whole[here] = self._read_chunk(key, chunk, there)
                count += math.prod(b - a for a, b in spans)
        if count != whole.numel():
            raise damaged(self.folder, f"{key} lacks blocks or has some twice", self._remedy)
        return whole

    def check_files(self) -> None:
        """Raise DamagedCheckpointError unless every file is there and long enough for the blocks in it."""
        for name, least in self.least_sizes().items():
            try:
                size = (self.folder / name).stat().st_size
            except OSError as error:
                raise unreadable(self.folder, name, error, self._remedy) from None
            if size < least:
                raise damaged(self.folder, f"{name} has {size} of {least} bytes or more", self._remedy)

    def wrong_archives(self) -> Iterator[str]:
        """What is wrong with blocks that do not agree with the checksums of their archives, block by block."""
        for key, info in self._infos():
            if key in self._stored:
                try:
                    with (self.folder / info.relative_path).open("rb") as file:
                        check_archive(file, info.offset, info.length)
                except Exception as error:  # Junk raises whatever its bytes happen to spell.
                    yield f"{self.folder / info.relative_path}: a block of {key} cannot be read ({sentence(error)})"

    def least_sizes(self) -> dict[str, int]:
        """By name of a file, the byte at which its last block ends; raises DamagedCheckpointError."""
        least: dict[str, int] = {}
        for key, info in self._infos():
            if Path(info.relative_path).name != info.relative_path:
                raise damaged(self.folder, f"{key} lies in {info.relative_path!r}, outside the folder", self._remedy)
            least[info.relative_path] = max(least.get(info.relative_path, 0), info.offset + info.length)
        return least

    def stored_bytes(self, key: str) -> int:
        """Bytes of a tensor's elements."""
        return math.prod(self.shapes[key]) * self.dtypes[key].itemsize

    def _infos(self) -> Iterator[tuple[str, _StorageInfo]]:
        data = self._metadata.storage_data
        if not isinstance(data, dict):
            raise damaged(self.folder, "its metadata does not say where blocks lie", self._remedy)
        for index, info in data.items():
            if not (isinstance(info, _StorageInfo) and isinstance(index, MetadataIndex)):
                raise damaged(self.folder, "its metadata does not say where blocks lie", self._remedy)
            yield index.fqn, info

    def _read_chunk(self, key: str, chunk: ChunkStorageMetadata, place: Place) -> Tensor:
        info = self._metadata.storage_data.get(MetadataIndex(key, chunk.offsets))
        where = f"the block of {key} at {tuple(chunk.offsets)}"
        if not isinstance(info, _StorageInfo):
            raise damaged(self.folder, f"its metadata does not say where {where} lies", self._remedy)
        if info.__dict__.get("transform_descriptors"):
            raise damaged(self.folder, f"{info.relative_path}: {where} is compressed", self._remedy)
        try:
            with (self.folder / info.relative_path).open("rb", buffering=0) as file:
                array = self._array(info, file.fileno())
                if array.shape != tuple(chunk.sizes) or array.dtype != self.dtypes[key]:
                    raise ValueError(f"it is {array.dtype} of shape {array.shape}")
                return array.read(file.fileno(), place)
        except FileNotFoundError as error:
            raise unreadable(self.folder, info.relative_path, error, self._remedy) from None
        except MemoryError:
            raise
        except Exception as error:  # Junk raises whatever its bytes happen to spell.
            what = f"{info.relative_path}: {where} cannot be read ({sentence(error)})"
            raise damaged(self.folder, what, self._remedy) from None

    def _array(self, info: _StorageInfo, descriptor: int) -> ArchivedTensor:
        place = info.relative_path, info.offset
        if place not in self._found:
            with os.fdopen(os.dup(descriptor), "rb") as file:
                self._found[place] = find_tensor(file, info.offset, info.length)
        return self._found[place]
