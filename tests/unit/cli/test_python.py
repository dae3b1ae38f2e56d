"""The typed functions: what is wrong is said before anything starts, and callbacks hear what there is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import counterpoint
from counterpoint.errors import CheckpointError, ConfigError, InputError
from counterpoint.train.callbacks import Callback, EvaluationContext, SaveContext, StepContext
from counterpoint.train.engine import StepResult
from counterpoint.train.signals import StopSignals
from counterpoint.train.told import Callbacks
from tests.unit.cli.conftest import Command

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"


class Noting(Callback):
    """Notes what it hears, and asks to stop at a step."""

    def __init__(self, stop: int = 0) -> None:
        self.heard: list[StepContext | EvaluationContext | SaveContext] = []
        self.stop = stop

    def after_step(self, context: StepContext) -> None:
        self.heard.append(context)
        if context.step == self.stop:
            context.request_stop()

    def after_evaluation(self, context: EvaluationContext) -> None:
        self.heard.append(context)

    def after_save(self, context: SaveContext) -> None:
        self.heard.append(context)


def test_callbacks_hear_in_their_order_and_may_ask_to_stop(tmp_path: Path) -> None:
    first, second, signals = Noting(), Noting(stop=3), StopSignals()
    told = Callbacks([first, second], tmp_path, 1, 8, signals.ask)
    told.evaluation(2, "held_out", 0.5)
    told.saved(2, tmp_path / "checkpoints" / "step-2")
    result = StepResult.__new__(StepResult)
    for name, value in {"loss": 0.25, "norm": 2.0, "learning_rates": {"language": 1e-3}}.items():
        object.__setattr__(result, name, value)
    told.step(2, result)
    assert not signals.is_wanted
    told.step(3, result)
    is_wanted: bool = signals.is_wanted
    assert is_wanted
    assert signals.heard is None
    assert first.heard == second.heard
    evaluation, saved, step, last = first.heard
    assert isinstance(evaluation, EvaluationContext)
    assert (evaluation.split, evaluation.loss, evaluation.rank) == ("held_out", 0.5, 1)
    assert isinstance(saved, SaveContext)
    assert saved.checkpoint.name == "step-2"
    assert isinstance(step, StepContext)
    assert (step.loss, step.gradient_norm, dict(step.learning_rates)) == (0.25, 2.0, {"language": 1e-3})
    assert (step.step, step.steps, step.run) == (2, 8, tmp_path)
    assert last == replace(step, step=3)


def test_a_callback_that_cannot_travel_is_refused(counterpoint: Command, tmp_path: Path) -> None:
    class Local(Callback):
        pass

    with pytest.raises(InputError, match=r"callbacks\.1: got a Local that cannot be pickled .*; define its class"):
        _train(tmp_path, [Noting(), Local()])


def test_what_is_wrong_is_said_as_by_the_commands(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.steps: got 0, expected at least 1"):
        counterpoint.train(EXAMPLE, ["training.steps=0"])
    with pytest.raises(CheckpointError, match=r"no config\.yaml, expected a run folder"):
        counterpoint.open_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.yaml, expected a run folder"):
        counterpoint.evaluate(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.yaml, expected a run folder"):
        counterpoint.generate(str(tmp_path), "What?")


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EXAMPLE.read_text())
    run = counterpoint.open_run(tmp_path)
    assert run.config.training.steps == 20
    assert (run.checkpoints, run.losses, run.evaluation) == ((), {}, None)


def _train(folder: Path, callbacks: list[Any]) -> None:
    import counterpoint as package

    package.train(EXAMPLE, [f"run.dir={folder / 'run'}", "run.device=cpu"], callbacks=callbacks)
