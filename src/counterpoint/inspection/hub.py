"""A Hugging Face folder: the headers of its safetensors files, and the modules that its config.json describes."""

import json
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from counterpoint.convert.composite import CompositeModel, composite_of
from counterpoint.convert.folder import CONFIG_NAME, INDEX_NAME, SINGLE_NAME, read_config
from counterpoint.convert.found import as_found, names_found
from counterpoint.convert.kind import kind_of_config
from counterpoint.convert.links import Place
from counterpoint.errors import CheckpointError
from counterpoint.families import FAMILIES
from counterpoint.inspection.contents import DAMAGED, Contents, StoredModule, StoredTensor, module_of
from counterpoint.train.state.archive import ArchivedTensor
from counterpoint.train.warm.folders import FolderKind

_LONGEST_HEADER = 100_000_000
"""Bytes: what safetensors itself takes."""
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Shard:
    """One file: where its tensors lie, and what is wrong with it."""

    arrays: Mapping[str, ArchivedTensor]
    size_bytes: int = 0
    problem: str | None = None


def open_hub(path: Path) -> Contents:
    """What lies in a Hugging Face folder; raises CheckpointError if its config.json is none."""
    config = read_config(path)
    names, problems = _files(path)
    shards = {name: _shard(path / name) for name in names}
    problems += [shard.problem for shard in shards.values() if shard.problem is not None]
    arrays = {name: (path / file, one) for file, shard in shards.items() for name, one in shard.arrays.items()}
    problems += _unlike_index(path, {name: file.name for name, (file, _one) in arrays.items()})
    damage = (DAMAGED,) if problems else ()
    tensors = {
        name: StoredTensor(name, one.shape, str(one.dtype).removeprefix("torch.")) for name, (_f, one) in arrays.items()
    }
    whole, note = _whole(path, config, tensors)

    def read(name: str, place: Place | None) -> Tensor:
        file, array = arrays[name]
        with file.open("rb", buffering=0) as opened:
            return array.read(opened.fileno(), place or tuple(slice(0, size) for size in array.shape))

    return Contents(
        path=path,
        kind=FolderKind.HUB,
        folder=path,
        tensors=tensors,
        modules=tuple(_modules(path, str(kind_of_config(config)), tensors, whole, can_start=not problems)),
        read=read,
        problems=tuple(problems),
        notes=(*note, *damage),
        files=len(names),
        size_bytes=sum(shard.size_bytes for shard in shards.values()),
        whole=whole,
    )


def _whole(
    path: Path, config: Mapping[str, Any], tensors: Collection[str]
) -> tuple[CompositeModel | None, tuple[str, ...]]:
    """The models that a config describes with these tensors, or why it describes none of ours.

    A head that is stored although words are tied is taken for their copy, since values are not read.
    """
    try:
        whole = composite_of(config, str(path / CONFIG_NAME))
        return as_found(whole, names_found(whole, tensors, path), lambda _head, _words: True), ()
    except CheckpointError as error:
        return None, (f"init_from takes nothing of it: {error}",)


def _files(path: Path) -> tuple[list[str], list[str]]:
    """The names of its files with tensors, and what is wrong with that."""
    if (path / SINGLE_NAME).is_file():
        return [SINGLE_NAME], []
    if not (path / INDEX_NAME).is_file():
        return [], [f"{path}: has neither {SINGLE_NAME} nor {INDEX_NAME}"]
    names = sorted(set(_index(path).values()))
    return names, [] if names else [f"{path / INDEX_NAME}: no weight_map from tensors to files of the folder"]


def _index(path: Path) -> dict[str, str]:
    """The file of each tensor as an index says; empty without one that can be read."""
    try:
        content = json.loads((path / INDEX_NAME).read_bytes())["weight_map"]
        return {str(name): Path(file).name for name, file in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _unlike_index(path: Path, found: Mapping[str, str]) -> Iterator[str]:
    """In what the index and the headers of its files contradict each other."""
    if (path / SINGLE_NAME).is_file():
        return
    index, readable = _index(path), set(found.values())
    lost = [name for name, file in index.items() if found.get(name) != file and file in readable]
    if lost:
        yield f"{path / INDEX_NAME}: names {len(lost)} tensors that its files lack, such as {lost[0]}"
    more = [name for name in found if name not in index]
    if more:
        yield f"{path}: {len(more)} tensors are in files but not in {INDEX_NAME}, such as {more[0]}"


def _shard(file: Path) -> _Shard:
    """The header of a file. Its size says whether all elements are there."""
    try:
        with file.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(size, _LONGEST_HEADER):
                return _Shard({}, size, f"{file}: its header says it has {length} bytes, the file has {size}")
            header: dict[str, Any] = json.loads(opened.read(length))
            described = {name: one for name, one in header.items() if name != "__metadata__"}
            arrays = {name: _array(name, 8 + length, one) for name, one in described.items()}
            spans = sorted((int(begin), int(end)) for begin, end in (one["data_offsets"] for one in described.values()))
    except FileNotFoundError:
        return _Shard({}, 0, f"{file}: missing")
    except _UNREADABLE as error:
        return _Shard({}, 0, f"{file}: cannot be read ({type(error).__name__}: {error})")
    ends = [0, *(end for _begin, end in spans)]
    if [begin for begin, _end in spans] != ends[:-1]:
        return _Shard({}, size, f"{file}: the bytes of its tensors do not follow each other")
    end = 8 + length + ends[-1]
    return _Shard(arrays, size, None if size == end else f"{file}: has {size} of {end} bytes")


_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error,
)  # fmt: skip
"""What a header can raise that is JSON, but none of safetensors."""


def _array(name: str, begin: int, described: Mapping[str, Any]) -> ArchivedTensor:
    """Where a tensor lies; raises one of `_UNREADABLE`."""
    shape = tuple(int(one) for one in described["shape"])
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    dtype = _DTYPES[described["dtype"]]
    first, end = (int(one) for one in described["data_offsets"])
    if end - first != step * dtype.itemsize:
        raise ValueError(f"{name} of shape {shape} and type {described['dtype']} has {end - first} bytes")
    return ArchivedTensor(begin + first, dtype, shape, tuple(reversed(strides)))


def _modules(
    path: Path, kind: str, tensors: Mapping[str, StoredTensor], whole: CompositeModel | None, *, can_start: bool
) -> list[StoredModule]:
    sizes = {str(one).removeprefix("torch."): one.itemsize for one in _DTYPES.values()}
    if whole is None:
        return [module_of(kind, "unknown here", tensors.values(), sizes)]
    left, found = dict(tensors), []
    for name, stored in whole.modules.items():
        theirs = {one for link in stored.links for one in link.theirs}
        own = [tensor for key, tensor in tensors.items() if whole.spell(key) in theirs]
        for tensor in own:
            left.pop(tensor.name, None)
        takes = f"init_from: {{path: {path}{', fresh: [projector.*]' * stored.adds_projector}}}"
        start = takes if can_start else None
        called = FAMILIES[stored.model.section.kind].called
        found.append(module_of(name, f"{called} of a {kind}", own, sizes, start=start))
    return [*found, *([module_of("(not read)", "", left.values(), sizes)] if left else [])]
