"""Calls the callbacks of a run on one rank."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

from counterpoint.errors import CounterpointError, RunError
from counterpoint.train.callbacks import Callback, EvaluationContext, SaveContext, StepContext
from counterpoint.train.engine import StepResult


@final
class Callbacks:
    """Calls all callbacks in their order; contexts pass `request_stop` on to them.

    An exception of a callback becomes a RunError that names the callback; a CounterpointError is raised unchanged.
    """

    def __init__(
        self, callbacks: Sequence[Callback], run: Path, rank: int, steps: int, request_stop: Callable[[], None]
    ) -> None:
        self._callbacks = tuple(callbacks)
        self._everywhere: dict[str, Any] = {"run": run, "rank": rank, "steps": steps, "_request_stop": request_stop}

    def step(self, step: int, result: StepResult) -> None:
        """Call `after_step` for a step that was finite and updated the model."""
        if not self._callbacks:
            return
        context = StepContext(
            step=step,
            loss=result.loss,
            gradient_norm=result.norm,
            learning_rates=dict(result.learning_rates),
            **self._everywhere,
        )
        for callback in self._callbacks:
            _call(callback.after_step, context)

    def evaluation(self, step: int, split: str, loss: float) -> None:
        """Call `after_evaluation`."""
        context = EvaluationContext(step=step, split=split, loss=loss, **self._everywhere)
        for callback in self._callbacks:
            _call(callback.after_evaluation, context)

    def saved(self, step: int, checkpoint: Path) -> None:
        """Call `after_save`."""
        context = SaveContext(step=step, checkpoint=checkpoint, **self._everywhere)
        for callback in self._callbacks:
            _call(callback.after_save, context)


def _call(method: Callable[[Any], None], context: object) -> None:
    try:
        method(context)
    except CounterpointError:
        raise
    except Exception as error:
        raise RunError(f"callback {method.__qualname__}: {type(error).__name__}: {error}") from error
