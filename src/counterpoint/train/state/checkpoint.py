"""Checkpoints with torch.distributed.checkpoint: layout-free keys, one block of a global tensor per rank.

This is where they lie and how they are read: what a manifest covers is verified as it is read, and nothing else loads.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from counterpoint.data.fingerprint import Fingerprint
from counterpoint.errors import CheckpointError, CounterpointError, DamagedCheckpointError
from counterpoint.execute.tree import ALONE, Tree
from counterpoint.section.section import Index
from counterpoint.train.agree import agreed, worst
from counterpoint.train.state.manifest import MANIFEST_FILE, Manifest, damaged, read_manifest, read_whole, unreadable
from counterpoint.train.state.metadata import load_metadata, tensors_in
from counterpoint.train.state.storage import METADATA_FILE, VerifyingReader, sentence
from counterpoint.train.state.stored_block import Tensors
from counterpoint.train.state.together import load_together

STATE_FILE = "state.json"
SAYS_MANIFEST = "manifest"
"""The key of the state that says that a manifest belongs to it, so that a lost one is noticed."""

REMEDY = "take another step by removing the folder, or start anew with checkpoint.resume=none"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """All that training needs beside tensors to go on."""

    seed: Index
    data_step: Index
    optimizer_step: Index
    exclusions: tuple[tuple[Index, Index, Index], ...] = ()
    skipped: Index = 0
    """Steps that were not finite and updated nothing."""
    data: Fingerprint = field(default_factory=dict)
    """What decided the order of data."""
    plugins: dict[str, str] = field(default_factory=dict)
    """Versions of the plug-ins, by name."""


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint whose small files have been read, and verified if it has a manifest; messages end in `remedy`."""

    folder: Path
    manifest: Manifest | None
    metadata: Metadata
    state_text: bytes
    remedy: str

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The global shape of every tensor, by its key."""
        return {key: tuple(tensor.size) for key, tensor in tensors_in(self.metadata).items()}

    @property
    def moments(self) -> dict[str, set[str]]:
        """The names of what optimizers kept of each parameter, `<module>.<name>`; empty for what was frozen."""
        kept: dict[str, set[str]] = {}
        for sort, _slash, key in (key.partition("/") for key in self.shapes):
            parameter, _slash, moment = key.partition("/")
            kept.setdefault(parameter, set()).update({moment} if sort == "optimizer" else ())
        return kept

    @property
    def state(self) -> TrainingState:
        """The training state; raises DamagedCheckpointError when it is malformed."""
        try:
            return TypeAdapter(TrainingState).validate_json(self.state_text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            reason = ": ".join((*map(str, first["loc"]), first["msg"]))
        raise damaged(self.folder, f"no readable {STATE_FILE} ({reason})", self.remedy)

    def check_sizes(self) -> None:
        """Raise DamagedCheckpointError unless all files of blocks are there and as long as the manifest says."""
        for name, file in ({} if self.manifest is None else self.manifest.blocks).items():
            try:
                size = (self.folder / name).stat().st_size
            except OSError as error:
                raise unreadable(self.folder, name, error, self.remedy) from None
            if size != file.size_bytes:
                raise damaged(self.folder, f"{name} has {size} of {file.size_bytes} bytes", self.remedy)


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in a run folder."""
    return run / "checkpoints" / f"step-{step:08d}"


def list_checkpoints(run: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted(int(folder.name.removeprefix("step-")) for folder in folders if folder.name[5:].isdecimal())


def unverified(folder: Path) -> str | None:
    """What is to be said of a checkpoint that was written without checksums; None of one that has them."""
    if (folder / MANIFEST_FILE).is_file() or not (folder / STATE_FILE).is_file():
        return None
    return f"{folder}: an older version wrote it, without checksums of its own, so not all damage would be seen"


def open_checkpoint(folder: Path, remedy: str = REMEDY) -> OpenedCheckpoint:
    """Read all of a checkpoint but its blocks; raises DamagedCheckpointError unless they are as they were written."""
    manifest = read_manifest(folder, remedy)
    state = read_whole(folder, STATE_FILE, manifest, remedy)
    if manifest is None and _says_manifest(state):
        raise damaged(folder, f"it has lost its {MANIFEST_FILE}", remedy)
    data = read_whole(folder, METADATA_FILE, manifest, remedy)
    try:
        metadata = load_metadata(data)
    except Exception as error:  # A torn pickle raises whatever its bytes happen to spell.
        raise damaged(folder, f"no readable checkpoint metadata ({sentence(error)})", remedy) from None
    return OpenedCheckpoint(folder, manifest, metadata, state, remedy)


def _says_manifest(state: bytes) -> bool:
    try:
        content = json.loads(state)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and bool(content.get(SAYS_MANIFEST, False))


def read_tensors(opened: OpenedCheckpoint, tensors: Tensors, tree: Tree | None, prefix: str = "") -> None:
    """Load into the blocks in place; strict: every key that begins with `prefix`, and its global shape, must match.

    Raises CheckpointError, DamagedCheckpointError if the fault is the checkpoint's; all ranks of `tree` raise alike.
    """
    stored = opened.shapes
    _check_keys(opened.folder, [key for key in stored if key.startswith(prefix)], tensors.keys(), tree)
    agreed(tree, lambda: _check_shapes(opened, tensors))
    read_blocks(opened, tensors, tree)


def read_blocks(opened: OpenedCheckpoint, tensors: Tensors, tree: Tree | None) -> None:
    """Load into the blocks in place, all ranks of `tree` together or, without one, this process alone.

    All keys and shapes are those of the checkpoint. Raises as `read_tensors`.
    """
    reader = VerifyingReader(opened.folder, opened.metadata, opened.manifest, opened.remedy)
    try:
        load_together(tensors, reader, ALONE if tree is None else tree)
    except CheckpointException as error:
        raise _cause(opened, error) from error


def _check_shapes(opened: OpenedCheckpoint, tensors: Tensors) -> None:
    stored = opened.shapes
    for key, block in tensors.items():
        expected, found = tuple(block.global_shape), stored[key]
        if expected != found:
            raise CheckpointError(
                f"{opened.folder}: {key} has the shape {found}, expected {expected}: it is the checkpoint of another "
                "model; use the config that it was written with, or another run.dir"
            )


def _check_keys(folder: Path, stored: Iterable[str], local: Iterable[str], tree: Tree | None) -> None:
    """Raise CheckpointError on all ranks of `tree` unless together they want the keys that are stored."""
    wanted = frozenset(local)
    if tree is not None:
        wanted = tree.merged(wanted, lambda several: frozenset().union(*several))
    missing, extra = sorted(wanted - set(stored)), sorted(set(stored) - wanted)
    if missing or extra:
        raise CheckpointError(
            f"{folder}: it is the checkpoint of another model: {len(missing)} keys are missing"
            f"{_example(missing)} and {len(extra)} are unknown{_example(extra)}; use the config that it was written "
            "with, or another run.dir"
        )


def _example(keys: list[str]) -> str:
    return f" (first {keys[0]!r})" if keys else ""


def _cause(opened: OpenedCheckpoint, error: CheckpointException) -> CounterpointError:
    """The first rank's own words out of a collection of tracebacks; what is ours is said as it is."""
    causes = sorted(error.failures.items())
    ours = [cause for _rank, (cause, _trace) in causes if isinstance(cause, CounterpointError)]
    others = [(rank, cause) for rank, (cause, _trace) in causes if not isinstance(cause, CounterpointError)]
    known = worst(ours)
    if known is not None and not others:
        return known
    rank, other = others[0]
    # Without a manifest, junk in the metadata shows itself in whatever DCP stumbles over.
    is_junk = opened.manifest is None and not isinstance(other, OSError | MemoryError)
    kind = DamagedCheckpointError if is_junk else CheckpointError
    return kind(
        f"{opened.folder}: cannot be read (rank {rank}: {sentence(other)}), expected a complete checkpoint; "
        f"{opened.remedy}"
    )
