"""Writing a folder: each process its pieces, into files that have no name yet by which anything would load them."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from counterpoint.convert.folder import CONFIG_NAME, INDEX_NAME
from counterpoint.errors import RunError
from counterpoint.execute.tree import Tree
from counterpoint.hub.base import BaseFolder
from counterpoint.hub.claim import claim
from counterpoint.hub.contents import Contents
from counterpoint.hub.plan import ExportPlan, Piece, Placed
from counterpoint.train.agree import agreed
from counterpoint.train.state.durable import sync, write_synced
from counterpoint.train.state.pieces import PieceReader

PARTIAL = ".partial"
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
}  # fmt: skip


@final
@dataclass(frozen=True)
class Export:
    """A planned and proved export of the checkpoint of a step, which `reader` reads, into the folder `out`."""

    plan: ExportPlan
    contents: Contents
    base: BaseFolder | None
    reader: PieceReader
    out: Path
    step: int

    @property
    def partial(self) -> Path:
        """What the folder is called while it is not whole."""
        return self.out.with_name(self.out.name + PARTIAL)


def write_export(export: Export, process: int, tree: Tree | None) -> None:
    """Write a folder, all processes of the tree together or this one alone; raises RunError or CheckpointError.

    The first process makes the files and, once all are through with theirs, gives them and the folder their names.
    """
    is_leader, claimed = process == 0, None
    try:
        claimed = agreed(tree, lambda: claim(export.partial) if is_leader else None)
        agreed(tree, lambda: _begin(export) if is_leader else None)
        agreed(tree, lambda: _write_share(export, process))
        agreed(tree, lambda: _publish(export) if is_leader else None)
    except RunError as error:
        if claimed is not None:
            shutil.rmtree(export.partial, ignore_errors=True)
        raise RunError(
            f"{export.out}: cannot be written ({error}), expected a disk with room for "
            f"{export.plan.size_bytes / 1e9:.2f} GB; make room or correct the rights, and export again"
        ) from error
    except BaseException:
        if claimed is not None:
            shutil.rmtree(export.partial, ignore_errors=True)
        raise
    finally:
        export.reader.close()
        if claimed is not None:
            os.close(claimed)


def _begin(export: Export) -> None:
    """Make all files in their sizes."""
    for file in export.plan.files:
        with (export.partial / f"{file.name}{PARTIAL}").open("wb") as stream:
            stream.truncate(file.size_bytes)
            stream.write(file.header)


def _write_share(export: Export, process: int) -> None:
    starts = {file.name: len(file.header) for file in export.plan.files}
    opened: dict[str, int] = {}
    with ExitStack() as stack:
        for piece in export.plan.shares[process]:
            placed = export.plan.placed[piece.number]
            if placed.file not in opened:
                opened[placed.file] = os.open(export.partial / f"{placed.file}{PARTIAL}", os.O_WRONLY)
                stack.callback(os.close, opened[placed.file])
            begin = starts[placed.file] + placed.begin + piece.start * placed.tensor.row_bytes
            _write_at(opened[placed.file], _bytes_of(export, placed, piece), begin)
        for file in opened.values():
            os.fsync(file)


def _bytes_of(export: Export, placed: Placed, piece: Piece) -> memoryview:
    tensor = placed.tensor
    place = [slice(0, size) for size in tensor.shape]
    if place:
        place[tensor.cut_dim] = slice(piece.start, piece.stop)
    if tensor.origin == "carried":
        return _carried(export, placed, piece, tuple(place))
    return _memory(_written(export, tensor.name, tuple(place)).to(DTYPES[tensor.dtype]))


def _written(export: Export, target: str, place: tuple[slice, ...]) -> torch.Tensor:
    """A piece of the folder's tensor out of ours; what has not moved is the base's."""
    linked, contents = export.contents.linked[target], export.contents

    def read_ours(name: str, there: tuple[slice, ...] | None) -> torch.Tensor:
        return export.reader.read(f"model/{linked.module}.{name}", there)

    def read_theirs(name: str, there: tuple[slice, ...] | None) -> torch.Tensor:
        assert export.base is not None, "only a base has tensors of theirs"
        return export.base.folder.read(contents.spelled[name], there)

    piece = linked.link.their_piece(linked.name, place, read_ours)
    if export.base is None or not contents.spelled.keys() >= set(linked.link.theirs):
        return piece
    is_same = linked.link.unchanged(linked.name, place, read_ours, read_theirs)
    if is_same is None:
        return piece
    there = read_theirs(linked.name, place)
    return torch.where(is_same, there.to(torch.promote_types(there.dtype, piece.dtype)), piece)


def _carried(export: Export, placed: Placed, piece: Piece, place: tuple[slice, ...]) -> memoryview:
    """A piece of the base's tensor, byte by byte unless the folder has another type."""
    assert export.base is not None, "only a base has what is carried"
    name, tensor = export.contents.in_base[placed.tensor.name], placed.tensor
    lying = export.base.lying[name]
    if lying.dtype != tensor.dtype:
        return _memory(export.base.folder.read(name, place).to(DTYPES[tensor.dtype]))
    data = memoryview(bytearray((piece.stop - piece.start) * tensor.row_bytes))
    with (export.base.path / lying.file).open("rb") as stream:
        stream.seek(lying.begin + piece.start * tensor.row_bytes)
        if stream.readinto(data) != len(data):
            raise RunError(f"{export.base.path / lying.file} has become shorter")
    return data


def _memory(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _write_at(file: int, data: memoryview, begin: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], begin + done)


def _publish(export: Export) -> None:
    """Add what is no tensor, and give all files and then the folder their names."""
    partial, contents = export.partial, export.contents
    for name, source in contents.copied.items():
        shutil.copyfile(source, partial / name)
        sync(partial / name)
    for file in export.plan.files:
        (partial / f"{file.name}{PARTIAL}").rename(partial / file.name)
    if contents.is_indexed or len(export.plan.files) > 1:
        write_synced(partial / INDEX_NAME, _json(_index(export.plan)))
    write_synced(partial / CONFIG_NAME, _json(contents.config))
    sync(partial)
    partial.rename(export.out)
    sync(export.out.parent)


def _index(plan: ExportPlan) -> dict[str, Any]:
    return {"metadata": {"total_size": plan.size_bytes}, "weight_map": dict(sorted(plan.index.items()))}


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2)}\n".encode()
