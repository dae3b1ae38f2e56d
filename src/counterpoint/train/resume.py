"""Whether a run may go on from its newest checkpoint: its data must come in the order that the checkpoint knows."""

from pathlib import Path

from counterpoint.config.problem import show
from counterpoint.config.schema import Config
from counterpoint.data.fingerprint import Fingerprint, data_fingerprint, fingerprint_of_today, first_difference
from counterpoint.errors import CheckpointError
from counterpoint.train.checkpoint import TrainingState, checkpoint_folder, list_checkpoints, read_state

_REMEDY = "restore it, choose another run.dir, or start anew with checkpoint.resume=none"


def newest_step(config: Config) -> int | None:
    """The step of the checkpoint that a run goes on from, None if it starts anew."""
    steps = list_checkpoints(Path(config.run.dir)) if config.checkpoint.resume == "auto" else []
    return max(steps, default=None)


def state_to_resume(config: Config, step: int) -> TrainingState:
    """The state of a checkpoint; raises CheckpointError unless it was written with the data order of this config."""
    folder = checkpoint_folder(Path(config.run.dir), step)
    state = read_state(folder)
    if not state.data:
        raise CheckpointError(
            f"{folder}: it does not say which data it was written with, expected the field data in its state; "
            "choose another run.dir, or start anew with checkpoint.resume=none"
        )
    data = data_fingerprint(config)
    before: Fingerprint = {"run.seed": state.seed, **fingerprint_of_today(state.data, data)}
    now: Fingerprint = {"run.seed": config.run.seed, **data}
    key = first_difference(before, now)
    if key is not None:
        raise CheckpointError(
            f"{folder}: it was written with {key} {_value(before, key)}, got {_value(now, key)}, expected the "
            f"same, which decides what a run reads; {_REMEDY}"
        )
    return state


def _value(values: Fingerprint, key: str) -> str:
    return show(values[key]) if key in values else "nothing"
