"""Checkpoints made in this process: whole ones of several files, as several ranks write them, and those of old."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from traceback import StackSummary
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from counterpoint.parallelize.blocks import Sharding, block_of, whole_block
from counterpoint.train.state.checkpoint import STATE_FILE, OpenedCheckpoint, TrainingState, read_tensors
from counterpoint.train.state.storage import DigestingWriter
from counterpoint.train.state.stored_block import BlockSavePlanner, StoredBlock, Tensors
from counterpoint.train.state.writer import CheckpointWriter

RANKS = 2
SHAPES = {"model/language.embed": (6, 4), "model/language.norm": (5,), "optimizer/language.embed/exp_avg": (6, 4)}


def values(step: int) -> dict[str, torch.Tensor]:
    """All tensors of a model at a step; no value is zero."""
    generator = torch.Generator().manual_seed(step)
    return {key: 1.0 + torch.rand(shape, generator=generator) for key, shape in SHAPES.items()}


def blocks(tensors: Mapping[str, torch.Tensor], rank: int = 0, ranks: int = 1) -> dict[str, StoredBlock]:
    """A rank's rows of whole tensors, sharing memory."""
    cut = {
        key: block_of(key, Sharding(tuple(tensor.shape), "shard"), 0, 1, rank, ranks) for key, tensor in tensors.items()
    }
    return {key: StoredBlock(block, tensors[key][block.global_slices]) for key, block in cut.items()}


class SeveralFiles(CheckpointWriter):
    """Writes whole tensors as so many ranks do that each hold their rows, a file a rank."""

    def _write_blocks(self, tensors: Tensors, storage: DigestingWriter) -> None:
        try:
            self._write_files(tensors, storage)
        except OSError as error:
            raise CheckpointException("write", {0: (error, StackSummary())}) from error

    def _write_files(self, tensors: Tensors, storage: DigestingWriter) -> None:
        whole = {key: block.tensor for key, block in tensors.items()}
        planners = [BlockSavePlanner(flatten_state_dict=False) for _rank in range(RANKS)]
        for rank, planner in enumerate(planners):
            planner.set_up_planner(blocks(whole, rank, RANKS), is_coordinator=rank == 0)
        plans, metadata = planners[0].create_global_plan([planner.create_local_plan() for planner in planners])
        plans = [
            planner.finish_plan(p) for planner, p in zip(planners, storage.prepare_global_plan(plans), strict=True)
        ]
        written = [storage.write_data(plan, planner) for plan, planner in zip(plans, planners, strict=True)]
        storage.finish(metadata, [results.wait() for results in written])


def writer(run: Path, keep_last: int = 9, asynchronous: bool = False) -> CheckpointWriter:
    """A writer of this process alone."""
    return SeveralFiles(run, None, True, keep_last, asynchronous)


def state_of(step: int, **more: Any) -> TrainingState:
    """A training state."""
    return TrainingState(seed=0, data_step=step, optimizer_step=step, **more)


def read(opened: OpenedCheckpoint, rank: int = 0, ranks: int = 1) -> dict[str, torch.Tensor]:
    """What a rank of another layout reads of a checkpoint into tensors of its own."""
    tensors = blocks({key: torch.zeros(shape) for key, shape in SHAPES.items()}, rank, ranks)
    read_tensors(opened, tensors, None)
    return {key: block.tensor for key, block in tensors.items()}


def write_older(folder: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """A checkpoint of a version that wrote no manifest."""
    stored = {key: StoredBlock(whole_block(key, tuple(tensor.shape)), tensor) for key, tensor in tensors.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        save(dict(stored), checkpoint_id=folder, planner=BlockSavePlanner(flatten_state_dict=False), no_dist=True)
    (folder / STATE_FILE).write_text(json.dumps(state))
