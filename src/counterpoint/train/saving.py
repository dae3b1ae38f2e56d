"""Saving and resuming a run: which tensors make up its state, and where it goes on."""

from pathlib import Path

import torch.distributed as dist

from counterpoint.config.schema import Config
from counterpoint.data.fingerprint import data_fingerprint
from counterpoint.data.order import Exclusion
from counterpoint.execute.groups import Groups
from counterpoint.train.checkpoint import (
    CheckpointWriter,
    StoredBlock,
    Tensors,
    TrainingState,
    checkpoint_folder,
    read_tensors,
)
from counterpoint.train.engine import Engine
from counterpoint.train.resume import newest_step, state_to_resume
from counterpoint.train.warm import warm_start


def model_tensors(engine: Engine) -> dict[str, StoredBlock]:
    """Parameters and buffers by key `model/<module>.<name>`; a rank without elements of a parameter leaves it out."""
    return {f"model/{one.key}": StoredBlock(one.block, one.value) for one in engine.held if one.block.numel}


def optimizer_tensors(engine: Engine) -> dict[str, StoredBlock]:
    """AdamW's moments by key `optimizer/<module>.<name>/exp_avg`."""
    tensors = {}
    for optimizer in engine.optimizers.values():
        for parameter, name, moment in optimizer.moments():
            tensors[f"optimizer/{parameter.key}/{name}"] = StoredBlock(parameter.block, moment)
    return tensors


class Saver:
    """Saves and resumes one run."""

    def __init__(self, config: Config, groups: Groups, run: Path) -> None:
        self._config, self._groups, self._run = config, groups, run
        self._data = data_fingerprint(config)
        assert groups.storage is not None, "only active ranks save"
        self._writer = CheckpointWriter(
            run,
            groups.storage,
            groups.storage.rank() == 0,
            config.checkpoint.keep_last,
            config.checkpoint.asynchronous,
        )

    def resume(self, engine: Engine) -> TrainingState:
        """Load the newest complete checkpoint if `checkpoint.resume` is auto and there is one; else start at step 0,
        with the values that `init_from` gives."""
        newest = self._agreed(newest_step(self._config))
        if newest is None:
            warm_start(self._config, engine.plan, engine.held)
            return TrainingState(seed=self._config.run.seed, data_step=0, optimizer_step=0, data=self._data)
        folder = checkpoint_folder(self._run, newest)
        state = state_to_resume(self._config, newest)
        tensors: Tensors = {**model_tensors(engine), **optimizer_tensors(engine)}
        read_tensors(folder, tensors, self._groups.storage)
        for optimizer in engine.optimizers.values():
            optimizer.set_step(state.optimizer_step - state.skipped)
        engine.optimizer_step, engine.skipped = state.optimizer_step, state.skipped
        return state

    def save(self, engine: Engine, step: int, exclusions: tuple[Exclusion, ...]) -> None:
        """Write a checkpoint after `step` steps, on all ranks together."""
        state = TrainingState(
            seed=self._config.run.seed,
            data_step=step,
            optimizer_step=engine.optimizer_step,
            skipped=engine.skipped,
            exclusions=tuple((e.source, e.index, e.from_step) for e in exclusions),
            data=self._data,
        )
        self._writer.write({**model_tensors(engine), **optimizer_tensors(engine)}, state)

    def poll(self) -> None:
        """Raise what went wrong with the checkpoint that is being written, without waiting for it."""
        self._writer.poll()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        self._writer.finish()

    def _agreed(self, newest: int | None) -> int | None:
        """The first rank's view of the run folder, so that no rank resumes from another step."""
        choice = [newest]
        dist.broadcast_object_list(choice, group=self._groups.storage, group_src=0)
        return choice[0]
