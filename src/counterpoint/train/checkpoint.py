"""Checkpoints with torch.distributed.checkpoint: layout-free keys, one block of a global tensor per rank.

A checkpoint is written beside its final name and renamed when every rank is done, so a folder that exists is complete.
"""

import json
import shutil
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from pydantic import TypeAdapter, ValidationError
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
)
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from counterpoint.config.section import Index
from counterpoint.data.fingerprint import Fingerprint
from counterpoint.errors import CheckpointError, RunError
from counterpoint.parallelize.blocks import Block
from counterpoint.train.metadata import PlainReader

STATE_FILE = "state.json"
_REMEDY = "take another step by removing the folder, or start anew with checkpoint.resume=none"
_LONGEST_REASON = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """All that training needs beside tensors to go on (design section 5)."""

    seed: Index
    data_step: Index
    optimizer_step: Index
    exclusions: tuple[tuple[Index, Index, Index], ...] = ()
    skipped: Index = 0
    """Steps that were not finite and updated nothing."""
    data: Fingerprint = field(default_factory=dict)
    """What decided the order of data."""


class StoredBlock:
    """A local tensor as the block of a global one, which is all that a checkpoint knows of layouts."""

    def __init__(self, block: Block, tensor: torch.Tensor) -> None:
        self._block, self._tensor = block, tensor

    @property
    def global_shape(self) -> tuple[int, ...]:
        """The shape of the global tensor."""
        return self._block.global_shape

    @property
    def tensor(self) -> torch.Tensor:
        """The part of the local tensor that the global one has; padding is left out."""
        return self._tensor[tuple(slice(0, extent) for extent in self._block.shape)]

    def staged(self) -> "StoredBlock":
        """A copy in CPU memory that training does not change."""
        return StoredBlock(self._block, self._tensor.detach().to("cpu", copy=True))

    @property
    def chunk(self) -> ChunkStorageMetadata:
        """Where the block lies in the global tensor, in DCP's terms."""
        return ChunkStorageMetadata(torch.Size(self._block.offset), torch.Size(self._block.shape))

    def write_item(self, key: str) -> WriteItem:
        """What DCP is to write for it."""
        properties = TensorProperties.create_from_tensor(self._tensor)
        data = TensorWriteData(self.chunk, properties, torch.Size(self.global_shape))
        return WriteItem(MetadataIndex(key, self.chunk.offsets), WriteItemType.SHARD, tensor_data=data)


Tensors = Mapping[str, StoredBlock]


class _BlockSavePlanner(DefaultSavePlanner):
    """Plans the blocks of all ranks; one that several hold is written once."""

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([block.write_item(key) for key, block in self.state_dict.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> torch.Tensor:
        tensor: torch.Tensor = self.state_dict[index.fqn].tensor
        return tensor


class _BlockLoadPlanner(DefaultLoadPlanner):
    """Reads into blocks whatever stored blocks overlap them, so any layout reads what any other wrote."""

    def set_up_planner(
        self, state_dict: dict[str, Any], metadata: Metadata | None = None, is_coordinator: bool = False
    ) -> None:
        self.state_dict, self.metadata, self.is_coordinator = state_dict, metadata, is_coordinator

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None, "DCP hands the metadata to set_up_planner"
        stored: dict[str, Any] = self.metadata.state_dict_metadata
        return LoadPlan(
            [
                item
                for key, block in self.state_dict.items()
                for item in create_read_items_for_chunk_list(key, stored[key], [block.chunk])
            ]
        )

    def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
        tensor: torch.Tensor = self.state_dict[index.fqn].tensor
        return tensor


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in a run folder."""
    return run / "checkpoints" / f"step-{step:08d}"


def list_checkpoints(run: Path) -> list[int]:
    """Steps of the complete checkpoints of a run, ascending."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted(int(folder.name.removeprefix("step-")) for folder in folders if folder.name[5:].isdigit())


def read_state(folder: Path) -> TrainingState:
    """The training state of a checkpoint; raises CheckpointError when it is missing or malformed."""
    try:
        return TypeAdapter(TrainingState).validate_json((folder / STATE_FILE).read_bytes(), strict=True)
    except OSError as error:
        reason = error.strerror or str(error)
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join((*map(str, first["loc"]), first["msg"]))
    raise CheckpointError(f"{folder}: no readable {STATE_FILE} ({reason}), expected a complete checkpoint; {_REMEDY}")


class CheckpointWriter:
    """Writes checkpoints of a run, at most one at a time, in the background if asked to."""

    def __init__(
        self, run: Path, group: dist.ProcessGroup, is_leader: bool, keep_last: int, asynchronous: bool
    ) -> None:
        self._run, self._group, self._leader = run, group, is_leader
        self._keep_last, self._asynchronous = keep_last, asynchronous
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def write(self, tensors: Tensors, state: TrainingState) -> None:
        """Save on all ranks together; returns once the tensors may change."""
        self.finish()
        staged = {key: block.staged() for key, block in tensors.items()}
        self._running = self._executor.submit(self._write, staged, state)
        if not self._asynchronous:
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written; raises what went wrong with it."""
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def poll(self) -> None:
        """Raise what went wrong with the checkpoint that is being written, without waiting for it."""
        if self._running is not None and self._running.done():
            self.finish()

    def _write(self, tensors: Tensors, state: TrainingState) -> None:
        final = checkpoint_folder(self._run, state.optimizer_step)
        partial = _partial(final)
        if self._leader:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        dist.barrier(self._group)
        planner = _BlockSavePlanner(flatten_state_dict=False)
        try:
            save(dict(tensors), checkpoint_id=partial, planner=planner, process_group=self._group)
        except CheckpointException as error:
            raise RunError(f"{final}: the checkpoint could not be written: {_reason(error)}") from error
        if self._leader:
            (partial / STATE_FILE).write_text(json.dumps(asdict(state)))
            if final.exists():
                _remove(final, final.with_name(final.name + ".old.partial"))
            partial.rename(final)
            written = [step for step in list_checkpoints(self._run) if step <= state.optimizer_step]
            for step in written[: -self._keep_last]:
                old = checkpoint_folder(self._run, step)
                _remove(old, _partial(old))
        dist.barrier(self._group)


def _partial(folder: Path) -> Path:
    """What a checkpoint is called while it is not whole."""
    return folder.with_name(folder.name + ".partial")


def _remove(folder: Path, aside: Path) -> None:
    """Delete a checkpoint; it loses its name first, so that a folder of that name is whole at every moment."""
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)


def read_tensors(folder: Path, tensors: Tensors, group: dist.ProcessGroup | None, prefix: str = "") -> None:
    """Load into the blocks in place; strict: every key that begins with `prefix`, and its global shape, must match.

    Raises CheckpointError.
    """
    stored = stored_shapes(folder)
    _check_keys(folder, [key for key in stored if key.startswith(prefix)], tensors.keys(), group)
    for key, block in tensors.items():
        expected, found = tuple(block.global_shape), stored[key]
        if expected != found:
            raise CheckpointError(
                f"{folder}: {key} has the shape {found}, expected {expected}: it is the checkpoint of another model; "
                "use the config that it was written with, or another run.dir"
            )
    read_blocks(folder, tensors, group)


def stored_shapes(folder: Path, remedy: str = _REMEDY) -> dict[str, tuple[int, ...]]:
    """The global shape of every tensor of a checkpoint, by its key; raises CheckpointError, which ends in `remedy`."""
    try:
        stored: dict[str, Any] = PlainReader(folder).read_metadata().state_dict_metadata
        return {key: tuple(tensor.size) for key, tensor in stored.items()}
    except Exception as error:  # A torn pickle raises whatever its bytes happen to spell.
        raise CheckpointError(
            f"{folder}: no readable checkpoint metadata ({_sentence(error)}), expected a complete checkpoint; {remedy}"
        ) from None


def read_blocks(folder: Path, tensors: Tensors, group: dist.ProcessGroup | None) -> None:
    """Load into the blocks in place, all ranks of `group` together or, without one, this process alone.

    All keys and shapes are those of the checkpoint. Raises CheckpointError.
    """
    with warnings.catch_warnings():
        # DCP warns that it loads in a single process, which is what is asked for here.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            load(
                dict(tensors),
                storage_reader=PlainReader(folder),
                planner=_BlockLoadPlanner(),
                process_group=group,
                no_dist=group is None,
            )
        except CheckpointException as error:
            raise CheckpointError(
                f"{folder}: cannot be read ({_reason(error)}), expected a complete checkpoint; {_REMEDY}"
            ) from error


def _check_keys(folder: Path, stored: Iterable[str], local: Iterable[str], group: dist.ProcessGroup | None) -> None:
    wanted = set(local)
    if group is not None:
        gathered: list[set[str] | None] = [None] * group.size()
        dist.all_gather_object(gathered, wanted, group=group)
        wanted = set().union(*(keys for keys in gathered if keys is not None))
    missing, extra = sorted(wanted - set(stored)), sorted(set(stored) - wanted)
    if missing or extra:
        raise CheckpointError(
            f"{folder}: it is the checkpoint of another model: {len(missing)} keys are missing"
            f"{_example(missing)} and {len(extra)} are unknown{_example(extra)}; use the config that it was written "
            "with, or another run.dir"
        )


def _example(keys: list[str]) -> str:
    return f" (first {keys[0]!r})" if keys else ""


def _reason(error: CheckpointException) -> str:
    """The first rank's own words out of DCP's collection of tracebacks."""
    rank, (cause, _trace) = min(error.failures.items())
    return f"rank {rank}: {_sentence(cause)}"


def _sentence(error: BaseException) -> str:
    """An error's kind and the beginning of its first line: torch's advice on loading fills a screen."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line[:_LONGEST_REASON]}{' ...' * (len(line) > _LONGEST_REASON)}"
