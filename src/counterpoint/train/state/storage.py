"""Storage for torch.distributed.checkpoint (DCP) that computes and verifies a digest of every block.

The files have the format of DCP's own storage; the digests are in the manifest beside them.
"""

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch.distributed.checkpoint.filesystem import DEFAULT_SUFFIX, FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from counterpoint.train.state.durable import sync
from counterpoint.train.state.manifest import BlockDigest, BlockFile, Manifest, damaged, unreadable

METADATA_FILE = ".metadata"


@dataclass(frozen=True)
class DigestedResult(WriteResult):
    """The WriteResult of a block, with its digest."""

    digest: str


class DigestingWriter(FileSystemWriter):
    """Writes one file per rank; after `finish`, the coordinator has the digests of all blocks."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder)
        self._folder, self._step = folder, step
        self.blocks: dict[str, BlockFile] = {}

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write the blocks of this rank consecutively, and wait until they are on the disk."""
        name = f"{plan.storage_data.prefix}0{DEFAULT_SUFFIX}"
        results: list[WriteResult] = []
        if plan.items:
            with (self._folder / name).open("wb") as file:
                results += [self._write_block(file, name, item, planner) for item in plan.items]
                file.flush()
                os.fsync(file.fileno())
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write `.metadata`, and keep the manifest's entries of the blocks."""
        super().finish(metadata, results)
        # torch calls fsync before it has flushed its own buffer.
        sync(self._folder / METADATA_FILE)
        files: dict[str, list[DigestedResult]] = {}
        for result in (result for of_rank in results for result in of_rank):
            assert isinstance(result, DigestedResult), "every rank writes with this class"
            files.setdefault(result.storage_data.relative_path, []).append(result)
        self.blocks = {
            name: BlockFile(
                size_bytes=sum(result.size_in_bytes for result in written),
                digests={str(result.storage_data.offset): result.digest for result in written},
            )
            for name, written in files.items()
        }

    def _write_block(self, file: BinaryIO, name: str, item: WriteItem, planner: SavePlanner) -> DigestedResult:
        tensor = planner.resolve_data(item)
        assert isinstance(tensor, torch.Tensor), "a checkpoint holds tensors"
        start, offset = file.tell(), tuple(item.index.offset or ())
        stream = _DigestedStream(file, BlockDigest(self._step, item.index.fqn, offset))
        # torch.save writes the whole storage of a view.
        is_view = tensor.untyped_storage().nbytes() != tensor.nbytes
        torch.save(tensor.clone() if is_view else tensor, cast(IO[bytes], stream))
        size = file.tell() - start
        return DigestedResult(item.index, size, _StorageInfo(name, start, size), stream.digest.text)


class _DigestedStream(io.RawIOBase):
    """Forwards written bytes, and adds them to a digest."""

    def __init__(self, file: BinaryIO, digest: BlockDigest) -> None:
        self._file, self.digest = file, digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self._file.write(data)


class VerifyingReader(FileSystemReader):
    """Reads whole blocks, and raises DamagedCheckpointError for one that differs from the manifest.

    Without a manifest, a block must agree with the checksums of the zip archive that torch writes for a tensor.
    """

    def __init__(self, folder: Path, metadata: Metadata, manifest: Manifest | None, remedy: str) -> None:
        super().__init__(folder)
        self._folder, self._metadata, self._manifest, self._remedy = folder, metadata, manifest, remedy

    def read_metadata(self, *_arguments: Any, **_named: Any) -> Metadata:
        """The metadata passed to the constructor, which has been verified."""
        if self._metadata.storage_meta is None:
            self._metadata.storage_meta = StorageMeta()
        self._metadata.storage_meta.load_id = self.load_id
        return self._metadata

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fill the tensors of a plan; a stored block that several items need is read once."""
        for file, items in groupby(sorted(plan.items, key=self._place), lambda item: self._place(item)[0]):
            for item, tensor in self._tensors(file, list(items)):
                target = planner.resolve_tensor(item).detach()
                part = tensor[tuple(slice(s, s + n) for s, n in zip(item.storage_offsets, item.lengths, strict=True))]
                if part.shape != target.shape:
                    raise self._damaged(item.storage_index, "has another shape")
                target.copy_(part)
                planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _place(self, item: ReadItem) -> tuple[str, int]:
        info: _StorageInfo = self.storage_data[item.storage_index]
        return info.relative_path, info.offset

    def _tensors(self, file: str, items: list[ReadItem]) -> Iterator[tuple[ReadItem, torch.Tensor]]:
        """The items of one file with their stored blocks, in the order of the file."""
        try:
            stream = (self._folder / file).open("rb")
        except OSError as error:
            raise unreadable(self._folder, file, error, self._remedy) from None
        with stream:
            for (_file, _start), same in groupby(items, self._place):
                first, *others = same
                tensor = self._load(first.storage_index, self._read(stream, first.storage_index))
                for item in (first, *others):
                    yield item, tensor

    def _read(self, stream: BinaryIO, index: MetadataIndex) -> bytes:
        """The verified bytes of a block."""
        info: _StorageInfo = self.storage_data[index]
        try:
            stream.seek(info.offset)
            data = stream.read(info.length)
            size = os.fstat(stream.fileno()).st_size
        except OSError as error:
            raise unreadable(self._folder, info.relative_path, error, self._remedy) from None
        if len(data) != info.length:
            raise self._damaged(index, f"ends after {len(data)} of {info.length} bytes")
        if self._manifest is not None:
            digest = BlockDigest(self._manifest.step, index.fqn, tuple(index.offset or ()))
            digest.update(data)
            if digest.text != self._manifest.block_digest(info.relative_path, info.offset):
                raise self._damaged(index, "is not what was written")
            if size != self._manifest.blocks[info.relative_path].size_bytes:
                raise damaged(self._folder, f"{info.relative_path} has another size", self._remedy)
        return data

    def _load(self, index: MetadataIndex, data: bytes) -> torch.Tensor:
        try:
            if self._manifest is None:
                _check_archive(data)
            tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # Damaged bytes can raise any exception.
            raise self._damaged(index, f"cannot be read ({sentence(error)})") from None
        if not isinstance(tensor, torch.Tensor):
            raise self._damaged(index, "is no tensor")
        return tensor

    def _damaged(self, index: MetadataIndex, what: str) -> Exception:
        info: _StorageInfo = self.storage_data[index]
        place = f"{info.relative_path}: the block of {index.fqn} at {tuple(index.offset or ())}"
        return damaged(self._folder, f"{place} {what}", self._remedy)


def _check_archive(data: bytes) -> None:
    """Raise BadZipFile unless an archive agrees with its checksums, which torch does not verify."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        name = archive.testzip()
    if name is not None:
        raise zipfile.BadZipFile(f"{name} does not have its checksum")


_LONGEST_REASON = 160


def sentence(error: BaseException) -> str:
    """The type of an error and the beginning of its first line, without torch's long advice on loading."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line[:_LONGEST_REASON]}{' ...' * (len(line) > _LONGEST_REASON)}"
