"""Folders of torch.distributed.checkpoint that another program wrote: which iteration is meant, and its tensors."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from counterpoint.errors import CheckpointError, DamagedCheckpointError
from counterpoint.section.problem import show
from counterpoint.train.state.manifest import damaged, read_bytes
from counterpoint.train.state.metadata import load_metadata
from counterpoint.train.state.storage import METADATA_FILE, sentence
from counterpoint.train.state.stored_tensors import StoredTensors

TRACKER_FILE = "latest_checkpointed_iteration.txt"
"""Megatron-LM writes into it the newest iteration, or the word `release`."""
RELEASE = "release"
_FORMAT_FILE = "metadata.json"
_BACKENDS = ("torch_dist", "torch_dcp", "fsdp_dtensor")
_ITERATION = re.compile(r"iter_(\d{7,})")
_REMEDY = "choose another or save it anew"


@dataclass(frozen=True, slots=True)
class ForeignCheckpoint:
    """A checkpoint of another program, opened; `note` says why this one, where the path alone does not."""

    folder: Path
    tensors: StoredTensors
    note: str | None = None


def has_iterations(path: Path) -> bool:
    """Whether a folder has checkpoints of Megatron below it."""
    return (path / TRACKER_FILE).is_file() or bool(_iterations(path))


def open_foreign(path: Path, remedy: str = _REMEDY, *, check: bool = True) -> ForeignCheckpoint:
    """The checkpoint that a path means: itself, the one that its tracker file names, or its newest that is complete.

    Reads the metadata alone, and looks at the sizes of files. Raises CheckpointError; without `check` not for files
    that are missing or too short.
    """
    if (path / METADATA_FILE).is_file():
        return ForeignCheckpoint(path, _open(path, remedy, check))
    if (path / TRACKER_FILE).is_file():
        folder = path / _tracked(path, remedy)
        if not (folder / METADATA_FILE).is_file():
            raise CheckpointError(
                f"{folder}: no {METADATA_FILE}, expected a torch.distributed.checkpoint, since {path / TRACKER_FILE} "
                "names it and pickled weights are not opened; save it with --ckpt-format torch_dist, or choose another"
            )
        return ForeignCheckpoint(folder, _open(folder, remedy, check), f"the iteration that {TRACKER_FILE} names")
    passed = []
    for name in _iterations(path):
        try:
            note = f"the newest complete one of {len(_iterations(path))}, without a {TRACKER_FILE}"
            return ForeignCheckpoint(path / name, _open(path / name, remedy, True), note)
        except DamagedCheckpointError as error:
            passed.append(str(error))
    raise DamagedCheckpointError(f"{path}: none of its {len(passed)} iterations is complete; the newest: {passed[0]}")


def _iterations(path: Path) -> list[str]:
    """Names of the folders of iterations with metadata, newest first, and last a release."""
    numbered = [
        one.parent.name for one in path.glob(f"iter_*/{METADATA_FILE}") if _ITERATION.fullmatch(one.parent.name)
    ]
    ordered = sorted(numbered, key=lambda name: int(name.removeprefix("iter_")), reverse=True)
    return [*ordered, *((RELEASE,) if (path / RELEASE / METADATA_FILE).is_file() else ())]


def _tracked(path: Path, remedy: str) -> str:
    said = read_bytes(path, TRACKER_FILE, remedy).decode(errors="replace").strip()
    if said == RELEASE:
        return RELEASE
    if not (said.isascii() and said.isdigit()):
        raise CheckpointError(
            f"{path / TRACKER_FILE}: got {show(said)}, expected the number of an iteration or {RELEASE!r}; give the "
            "folder of an iteration itself"
        )
    return f"iter_{int(said):07d}"


def _open(folder: Path, remedy: str, check: bool) -> StoredTensors:
    _check_format(folder, remedy)
    try:
        metadata = load_metadata(read_bytes(folder, METADATA_FILE, remedy), foreign=True)
    except CheckpointError:
        raise
    except Exception as error:  # A torn pickle raises whatever its bytes happen to spell.
        raise damaged(folder, f"no readable checkpoint metadata ({sentence(error)})", remedy) from None
    tensors = StoredTensors(folder, metadata, remedy)
    if check:
        tensors.check_files()
    return tensors


def _check_format(folder: Path, remedy: str) -> None:
    """Raise CheckpointError if Megatron's own file says that tensors lie in files of another kind."""
    if not (folder / _FORMAT_FILE).is_file():
        return
    try:
        content = json.loads(read_bytes(folder, _FORMAT_FILE, remedy))
        backend = content.get("sharded_backend")
    except (ValueError, AttributeError, RecursionError):
        raise damaged(folder, f"{_FORMAT_FILE} holds no keys and values", remedy) from None
    if backend not in _BACKENDS:
        raise CheckpointError(
            f"{folder / _FORMAT_FILE}: got sharded_backend {show(backend)}, expected one of {', '.join(_BACKENDS)}; "
            "save it with --ckpt-format torch_dist"
        )
