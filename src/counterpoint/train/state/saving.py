"""Saving and resuming a run: the tensors of its state, and the choice of the checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.config.training import CheckpointConfig
from counterpoint.data.fingerprint import DataIdentity
from counterpoint.data.order.order import Exclusion
from counterpoint.errors import DamagedCheckpointError
from counterpoint.execute.groups import Groups
from counterpoint.train.agree import agreed
from counterpoint.train.engine import Engine
from counterpoint.train.state.checkpoint import (
    TrainingState,
    checkpoint_folder,
    open_checkpoint,
    read_tensors,
    unverified,
)
from counterpoint.train.state.resume import PassedOver, check_data, none_is_whole, other_versions, steps_to_try
from counterpoint.train.state.stored_block import StoredBlock, Tensors
from counterpoint.train.state.writer import CheckpointWriter
from counterpoint.train.warm.start import WarmStart, warm_start


def model_tensors(engine: Engine) -> dict[str, StoredBlock]:
    """Parameters and buffers by key `model/<module>.<name>`, except parameters of which this rank has no element."""
    return {f"model/{one.key}": StoredBlock(one.block, one.value) for one in engine.held if one.block.numel}


def optimizer_tensors(engine: Engine) -> dict[str, StoredBlock]:
    """The optimizer moments of each parameter, by key `optimizer/<module>.<name>/<moment>`."""
    tensors = {}
    for optimizer in engine.optimizers.values():
        for parameter, name, moment in optimizer.moments():
            tensors[f"optimizer/{parameter.key}/{name}"] = StoredBlock(parameter.block, moment)
    return tensors


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a run resumed: from the checkpoint of `step`, None for a new start, after skipping newer, damaged ones."""

    state: TrainingState
    step: int | None = None
    passed_over: tuple[PassedOver, ...] = ()
    note: str | None = None
    """A note about the checkpoint for the log."""


class Saver:
    """Saves and resumes one run."""

    def __init__(
        self,
        run: Path,
        checkpoint: CheckpointConfig,
        identity: DataIdentity,
        starts: Sequence[WarmStart],
        groups: Groups,
        published: Callable[[int], None] = lambda _step: None,
    ) -> None:
        self._run, self._checkpoint, self._identity = run, checkpoint, identity
        assert groups.storage is not None, "only active ranks save"
        self._starts, self._tree = starts, groups.storage
        self._writer = CheckpointWriter(
            run,
            groups.storage,
            groups.storage.is_first,
            checkpoint.keep_last,
            checkpoint.asynchronous,
            published,
        )

    def resume(self, engine: Engine, enter: Callable[[str], None] = lambda _action: None) -> Resumption:
        """Load the newest undamaged checkpoint if `checkpoint.resume` is auto; without any, start at step 0 with the
        values of `init_from`.

        `enter` is called before each checkpoint is read. A checkpoint that any rank finds damaged is skipped on all
        ranks. Raises CheckpointError if all are damaged.
        """
        # The steps that the first rank sees, so that all ranks resume from the same one.
        steps = self._tree.broadcast(steps_to_try(self._run, self._checkpoint))
        if not steps:
            warm_start(self._starts, engine.held)
            seed, data = self._identity.seed, self._identity.fingerprint
            return Resumption(TrainingState(seed=seed, data_step=0, optimizer_step=0, data=data))
        passed: list[PassedOver] = []
        for step in steps:
            enter(f"checkpoint of step {step}")
            try:
                state = self._load(engine, step)
            except DamagedCheckpointError as error:
                passed.append(PassedOver(step, str(error)))
                continue
            self._writer.damaged = frozenset(one.step for one in passed)
            return Resumption(state, step, tuple(passed), self._note(state, step))
        raise none_is_whole(self._run, passed)

    def _note(self, state: TrainingState, step: int) -> str | None:
        other = other_versions(state.plugins, self._identity.plugins)
        notes = [note for note in (unverified(checkpoint_folder(self._run, step)), other) if note is not None]
        return "; ".join(notes) if notes else None

    def _load(self, engine: Engine, step: int) -> TrainingState:
        """Fill the engine from a checkpoint; raises the same CheckpointError on all ranks.

        If it is damaged, the next one overwrites everything that it filled.
        """
        tree, folder = self._tree, checkpoint_folder(self._run, step)
        opened = agreed(tree, lambda: open_checkpoint(folder))
        state = agreed(tree, lambda: check_data(opened, self._identity))
        tensors: Tensors = {**model_tensors(engine), **optimizer_tensors(engine)}
        read_tensors(opened, tensors, tree)
        for optimizer in engine.optimizers.values():
            optimizer.set_step(state.optimizer_step - state.skipped)
        engine.optimizer_step, engine.skipped = state.optimizer_step, state.skipped
        return state

    def save(self, engine: Engine, step: int, exclusions: tuple[Exclusion, ...]) -> None:
        """Write a checkpoint after `step` steps, on all ranks together."""
        state = TrainingState(
            seed=self._identity.seed,
            data_step=step,
            optimizer_step=engine.optimizer_step,
            skipped=engine.skipped,
            exclusions=tuple((e.source, e.index, e.from_step) for e in exclusions),
            data=self._identity.fingerprint,
            plugins=dict(self._identity.plugins),
        )
        self._writer.write({**model_tensors(engine), **optimizer_tensors(engine)}, state)

    def poll(self) -> None:
        """Raise the error of the checkpoint that is being written, if it has failed; does not wait."""
        self._writer.poll()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written."""
        self._writer.finish()

    def take_published(self) -> list[tuple[int, Path]]:
        """The checkpoints, as step and folder, that were published since the last call."""
        return [(step, checkpoint_folder(self._run, step)) for step in self._writer.take_published()]
