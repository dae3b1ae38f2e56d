"""What a program hears of a training: a step, an evaluation, a checkpoint, each with its context."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Where a training is: the `run` folder, this process's `rank`, and which of `steps` has ended, counted from 1."""

    run: Path
    rank: int
    step: int
    steps: int
    _request_stop: Callable[[], None] = field(repr=False, compare=False)

    def request_stop(self) -> None:
        """End the run, as a signal does, after the step under way: it saves, and training again goes on from there.

        One rank's request ends the run on all of them.
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
    """A `checkpoint` folder that is whole and published; asynchronous ones are told of some steps after theirs."""

    checkpoint: Path


class Callback:
    """Hears of a training on every rank that takes part in it; derive from it and override what you need.

    Local ranks are processes of their own: a callback is pickled for them, and what it keeps stays with its rank. The
    methods run inside the step loop, so what takes long in one holds up all ranks.
    """

    def after_step(self, context: StepContext) -> None:
        """A step has ended; it is told of while the next one runs."""

    def after_evaluation(self, context: EvaluationContext) -> None:
        """A split has been evaluated."""

    def after_save(self, context: SaveContext) -> None:
        """A checkpoint has been published."""
