"""From which checkpoint a run may go on: the newest that is whole, of the same data in the same order."""

from dataclasses import dataclass
from pathlib import Path

from counterpoint.config.schema import Config
from counterpoint.data.fingerprint import Fingerprint, data_fingerprint, fingerprint_of_today, first_difference
from counterpoint.errors import CheckpointError, DamagedCheckpointError
from counterpoint.section.problem import show
from counterpoint.train.state.checkpoint import (
    OpenedCheckpoint,
    TrainingState,
    checkpoint_folder,
    list_checkpoints,
    open_checkpoint,
)

_REMEDY = "restore it, choose another run.dir, or start anew with checkpoint.resume=none"


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A checkpoint that a run does not go on from, because it is damaged, and in which way."""

    step: int
    why: str


def steps_to_try(config: Config) -> list[int]:
    """The steps of the checkpoints that a run could go on from, newest first; empty if it starts anew."""
    steps = list_checkpoints(Path(config.run.dir)) if config.checkpoint.resume == "auto" else []
    return steps[::-1]


def open_newest(config: Config) -> OpenedCheckpoint | None:
    """The newest checkpoint of which all but the blocks is whole, None if the run starts anew.

    Raises CheckpointError if all are damaged, or if this one was written with another order of data.
    """
    passed: list[PassedOver] = []
    for step in steps_to_try(config):
        try:
            opened = open_checkpoint(checkpoint_folder(Path(config.run.dir), step), _REMEDY)
            opened.check_sizes()
            check_data(config, opened)
        except DamagedCheckpointError as error:
            passed.append(PassedOver(step, str(error)))
            continue
        return opened
    if passed:
        raise none_is_whole(config, passed)
    return None


def none_is_whole(config: Config, passed: list[PassedOver]) -> CheckpointError:
    """What to raise where a run has checkpoints and all of them are damaged: it must not start anew unasked."""
    return CheckpointError(
        f"run.dir: none of the {len(passed)} checkpoints in {Path(config.run.dir) / 'checkpoints'} is whole, expected "
        f"one to go on from; the newest: {passed[0].why}"
    )


def check_data(config: Config, opened: OpenedCheckpoint) -> TrainingState:
    """The state of a checkpoint; raises CheckpointError unless it was written with the data order of this config."""
    state = opened.state
    if not state.data:
        raise CheckpointError(
            f"{opened.folder}: it does not say which data it was written with, expected the field data in its state; "
            "choose another run.dir, or start anew with checkpoint.resume=none"
        )
    data = data_fingerprint(config)
    before: Fingerprint = {"run.seed": state.seed, **fingerprint_of_today(state.data, data)}
    now: Fingerprint = {"run.seed": config.run.seed, **data}
    key = first_difference(before, now)
    if key is not None:
        raise CheckpointError(
            f"{opened.folder}: it was written with {key} {_value(before, key)}, got {_value(now, key)}, expected the "
            f"same, which decides what a run reads; {_REMEDY}"
        )
    return state


def _value(values: Fingerprint, key: str) -> str:
    return show(values[key]) if key in values else "nothing"
