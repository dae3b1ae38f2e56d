"""What a folder is that values can come from: decided here, for everything that reads one."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from counterpoint.convert.folder import CONFIG_NAME
from counterpoint.errors import CheckpointError
from counterpoint.train.state.checkpoint import STATE_FILE, checkpoint_folder, list_checkpoints
from counterpoint.train.state.storage import METADATA_FILE
from counterpoint.train.warm.iterations import has_iterations


class FolderKind(Enum):
    """Kinds of folders."""

    HUB = "a Hugging Face folder"
    CHECKPOINT = "a checkpoint of a run"
    RUN = "a run"
    FOREIGN = "a torch.distributed.checkpoint of another program"


@dataclass(frozen=True, slots=True)
class CheckpointPlace:
    """A checkpoint of ours, and the folder of its run."""

    folder: Path
    run: Path


def kind_of(path: Path) -> FolderKind | None:
    """What kind of folder it is, from names of files in it; None for none of these."""
    if (path / STATE_FILE).is_file():
        return FolderKind.CHECKPOINT
    if (path / METADATA_FILE).is_file():
        return FolderKind.FOREIGN
    if (path / CONFIG_NAME).is_file():
        return FolderKind.HUB
    if list_checkpoints(path):
        return FolderKind.RUN
    return FolderKind.FOREIGN if has_iterations(path) else None


def demand_kind(where: str, path: Path) -> FolderKind:
    """The kind of a folder; raises CheckpointError for none."""
    kind = kind_of(path)
    if kind is None:
        raise CheckpointError(
            f"{where}: {path} is no Hugging Face folder with a {CONFIG_NAME}, no run with a checkpoint, no checkpoint "
            f"and no torch.distributed.checkpoint with a {METADATA_FILE}, expected one of these; correct the path"
        )
    return kind


def checkpoint_at(path: Path) -> CheckpointPlace:
    """The checkpoint that the path of a run or checkpoint means: the newest of a run, or itself."""
    if kind_of(path) is FolderKind.CHECKPOINT:
        return CheckpointPlace(path, path.parent.parent)
    return CheckpointPlace(checkpoint_folder(path, list_checkpoints(path)[-1]), path)
