"""The checkpoint that a run resumes from: the newest undamaged one, of the same data in the same order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.config.training import CheckpointConfig
from counterpoint.data.fingerprint import DataIdentity, Fingerprint, fingerprint_of_today, first_difference
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
    """A damaged checkpoint that resuming skips, and the damage."""

    step: int
    why: str


def steps_to_try(run: Path, checkpoint: CheckpointConfig) -> list[int]:
    """The steps of the checkpoints to resume from, newest first; empty if the run starts over."""
    steps = list_checkpoints(run) if checkpoint.resume == "auto" else []
    return steps[::-1]


def open_newest(run: Path, steps: Sequence[int], identity: DataIdentity) -> OpenedCheckpoint | None:
    """The first of these checkpoints whose small files are undamaged, None if `steps` is empty.

    Raises CheckpointError if all are damaged, or if this one was written with another order of data.
    """
    passed: list[PassedOver] = []
    for step in steps:
        try:
            opened = open_checkpoint(checkpoint_folder(run, step), _REMEDY)
            opened.check_sizes()
            check_data(opened, identity)
        except DamagedCheckpointError as error:
            passed.append(PassedOver(step, str(error)))
            continue
        return opened
    if passed:
        raise none_is_whole(run, passed)
    return None


def none_is_whole(run: Path, passed: list[PassedOver]) -> CheckpointError:
    """The error for a run whose checkpoints are all damaged, since it must not start over silently."""
    return CheckpointError(
        f"run.dir: none of the {len(passed)} checkpoints in {run / 'checkpoints'} is whole, expected "
        f"one to go on from; the newest: {passed[0].why}"
    )


def check_data(opened: OpenedCheckpoint, identity: DataIdentity) -> TrainingState:
    """The training state of a checkpoint.

    Raises CheckpointError unless it was written with the same data in the same order, and all its plug-ins are loaded.
    """
    state = opened.state
    _check_plugins(opened.folder, state.plugins, identity.plugins)
    if not state.data:
        raise CheckpointError(
            f"{opened.folder}: it does not say which data it was written with, expected the field data in its state; "
            "choose another run.dir, or start anew with checkpoint.resume=none"
        )
    before: Fingerprint = {"run.seed": state.seed, **fingerprint_of_today(state.data, identity.fingerprint)}
    now: Fingerprint = {"run.seed": identity.seed, **identity.fingerprint}
    key = first_difference(before, now)
    if key is not None:
        raise CheckpointError(
            f"{opened.folder}: it was written with {key} {_value(before, key)}, got {_value(now, key)}, expected the "
            f"same, which decides what a run reads; {_REMEDY}"
        )
    return state


def _check_plugins(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name, version in before.items():
        if name not in now:
            raise CheckpointError(
                f"{folder}: it was written with the plug-in {name} {version}, got run.plugins without it, expected it "
                f"there, since its kinds may be in use; add it to run.plugins, {_REMEDY}"
            )


def other_versions(before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """A note about plug-ins whose versions differ from those of a checkpoint, None without any."""
    other = [f"{name} {version} (here {now[name]})" for name, version in before.items() if now[name] != version]
    return f"the checkpoint was written with other versions of plug-ins: {', '.join(other)}" if other else None


def _value(values: Fingerprint, key: str) -> str:
    return show(values[key]) if key in values else "nothing"
