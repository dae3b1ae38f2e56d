"""A run in Weights & Biases."""

from typing import Any

from counterpoint.recorders.identity import keep_identity, kept_identity
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.numbers import numbers_of
from counterpoint.recorders.wandb.spec import WandbSection

_STEP = "step"


class WandbRun:
    """Logs numbers by step; a run that goes on is the same there, whatever steps it repeats."""

    def __init__(self, section: WandbSection, recording: Recording) -> None:
        # It takes a second to import, and other processes never log.
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("nobody is logged in; set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline")
        # What is written on this rank's terminal and its log are ours to say and keep.
        settings = wandb.Settings(console="off", silent=True)
        self._run: Any = wandb.init(
            project=section.project, entity=section.entity, name=section.name or recording.folder.resolve().name,
            group=section.group, tags=list(section.tags), dir=str(recording.folder), config=dict(recording.config),
            id=kept_identity(recording), resume="allow", settings=settings,
        )  # fmt: skip
        self._teardown: Any = wandb.teardown
        keep_identity(recording, self._run.id)
        self._run.define_metric(_STEP)
        # Its own count of steps takes none that is not higher than the last.
        self._run.define_metric("*", step_metric=_STEP)
        recording.say(f"W&B run: {self._run.dir if self._run.offline else self._run.url}")

    def record(self, record: Record) -> None:
        numbers = numbers_of(record)
        if numbers:
            self._run.log({_STEP: record.step, **numbers})

    def close(self, is_finished: bool) -> None:
        code = 0 if is_finished else 1
        self._run.finish(exit_code=code)
        # Its own process may still write then, and ranks leave without what it would do at their exit.
        self._teardown(exit_code=code)
