"""What lies in a folder: the one call that tells kinds of folders apart."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from counterpoint.inspection.contents import Contents, StoredModule, StoredTensor
from counterpoint.inspection.foreign import open_other
from counterpoint.inspection.hub import open_hub
from counterpoint.inspection.ours import open_ours
from counterpoint.train.warm.folders import FolderKind, demand_kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What lies in a folder: its modules and tensors, and its `problems`, all that is damaged or missing."""

    path: str
    kind: str
    folder: str
    step: int | None
    steps: tuple[int, ...]
    files: int
    size_bytes: int
    modules: tuple[StoredModule, ...]
    tensors: tuple[StoredTensor, ...]
    others: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    verified: bool

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def inspect(path: Path, *, verify: bool = False) -> Inspection:
    """What lies in a run, a checkpoint, a Hugging Face folder or a torch.distributed.checkpoint, from headers alone.

    No plug-in is imported. With `verify` all bytes are compared with the digests that the folder has. Raises
    CheckpointError for another folder, or one whose headers cannot be read.
    """
    found = open_contents(path, verify=verify)
    return Inspection(
        path=str(path),
        kind=found.kind.value,
        folder=str(found.folder),
        step=found.step,
        steps=found.steps,
        files=found.files,
        size_bytes=found.size_bytes,
        modules=found.modules,
        tensors=tuple(found.tensors.values()),
        others=found.others,
        problems=found.problems,
        notes=(*found.notes, *((_NO_DIGESTS,) if verify and found.kind is FolderKind.HUB else ())),
        verified=verify and found.kind is not FolderKind.HUB,
    )


def open_contents(path: Path, *, verify: bool = False) -> Contents:
    """A folder of any kind, opened; raises CheckpointError."""
    kind = demand_kind("counterpoint", path)
    if kind is FolderKind.HUB:
        return open_hub(path)
    return open_other(path, verify=verify) if kind is FolderKind.FOREIGN else open_ours(path, kind, verify=verify)


_NO_DIGESTS = "a Hugging Face folder has no digests: only the sizes of its files were checked"
