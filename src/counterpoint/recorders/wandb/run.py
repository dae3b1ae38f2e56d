"""A run in Weights & Biases."""

from typing import Any

from counterpoint.recorders.identity import keep_identity, kept_identity
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.numbers import numbers_of
from counterpoint.recorders.wandb.spec import WandbSection

_STEP = "step"


class WandbRun:
    """Logs numbers by step; a resumed run continues the same W&B run, even if it repeats steps."""

    def __init__(self, section: WandbSection, recording: Recording) -> None:
        # Imported here, because it takes a second, and other processes never log.
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("nobody is logged in; set WANDB_API_KEY, run `wandb login`, or set WANDB_MODE=offline")
        # W&B must not capture or print to this rank's terminal.
        settings = wandb.Settings(console="off", silent=True)
        self._run: Any = wandb.init(
            project=section.project, entity=section.entity, name=section.name or recording.folder.resolve().name,
            group=section.group, tags=list(section.tags), dir=str(recording.folder), config=dict(recording.config),
            id=kept_identity(recording), resume="allow", settings=settings,
        )  # fmt: skip
        self._teardown: Any = wandb.teardown
        keep_identity(recording, self._run.id)
        self._run.define_metric(_STEP)
        # W&B's own step counter rejects steps that do not increase.
        self._run.define_metric("*", step_metric=_STEP)
        recording.say(f"W&B run: {self._run.dir if self._run.offline else self._run.url}")

    def record(self, record: Record) -> None:
        numbers = numbers_of(record)
        if numbers:
            self._run.log({_STEP: record.step, **numbers})

    def close(self, is_finished: bool) -> None:
        code = 0 if is_finished else 1
        self._run.finish(exit_code=code)
        # W&B's service process may still write, and ranks exit without running its atexit handler.
        self._teardown(exit_code=code)
