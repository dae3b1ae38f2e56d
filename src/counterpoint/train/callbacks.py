"""Callbacks of a program after steps, evaluations and checkpoints, each with a typed context."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The state of a training: the `run` folder, this process's `rank`, and the last `step` (from 1) of `steps`."""

    run: Path
    rank: int
    step: int
    steps: int
    _request_stop: Callable[[], None] = field(repr=False, compare=False)

    def request_stop(self) -> None:
        """Stop the run after the current step, as SIGTERM does: it saves a checkpoint, from which training resumes.

        A request of one rank stops all ranks.
        """
        self._request_stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext(Context):
    """A training step that updated the model: the mean `loss` over its global batch, the `gradient_norm` before
    clipping, and the learning rate of each module that is trained."""

    loss: float
    gradient_norm: float
    learning_rates: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationContext(Context):
    """The mean `loss` of an evaluation `split` after a step."""

    split: str
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveContext(Context):
    """A complete `checkpoint` folder; for asynchronous checkpoints the callback comes some steps later."""

    checkpoint: Path


class Callback:
    """The base class of callbacks, which every active rank calls; override the methods that you need.

    Local ranks are separate processes: each gets a pickled copy of the callback, and state of a copy stays on its rank.
    Methods run inside the step loop, so a slow one delays all ranks.
    """

    def after_step(self, context: StepContext) -> None:
        """Called after a step has ended, while the next one runs."""

    def after_evaluation(self, context: EvaluationContext) -> None:
        """Called after a split has been evaluated."""

    def after_save(self, context: SaveContext) -> None:
        """Called after a checkpoint is complete."""
