"""The typed functions: what is wrong is said before anything starts, and callbacks hear what there is."""

import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import counterpoint
from counterpoint import api
from counterpoint.cli import app
from counterpoint.errors import CheckpointError, ConfigError, DataError, InputError, RunError
from counterpoint.report.data_commands import data
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


@pytest.mark.parametrize("source", [None, 3, ["run.yaml"], b"run.yaml"])
def test_what_is_no_config_is_refused(source: Any) -> None:
    with pytest.raises(ConfigError, match=r"config: got a .*, expected the path of a file, a dict or a Config"):
        counterpoint.train(source)


def _numbers_outside() -> Iterator[tuple[str, str, int]]:
    """Functions with an argument and a number that the option of the same name does not take."""
    commands = [("", one) for one in app.registered_commands] + [("data_", one) for one in data.registered_commands]
    for prefix, command in commands:
        assert command.callback is not None
        name = prefix + (command.name or command.callback.__name__)
        function = {"import": "import_model"}.get(name, name)
        called = vars(api).get(function)
        taken = () if called is None else signature(called).parameters
        for option, parameter in signature(command.callback).parameters.items():
            for info in getattr(parameter.annotation, "__metadata__", ()) if option in taken else ():
                if info.min is not None:
                    yield function, option, int(info.min) - 1
                if info.max is not None:
                    yield function, option, int(info.max) + 1


@pytest.mark.parametrize(("function", "name", "number"), sorted(_numbers_outside()))
def test_functions_take_no_number_that_their_command_refuses(
    function: str, name: str, number: int, tmp_path: Path
) -> None:
    called = getattr(counterpoint, function)
    given = {
        one.name: str(EXAMPLE if one.name == "source" else tmp_path / "none")
        for one in signature(called).parameters.values()
        if one.default is one.empty
    }
    with pytest.raises(InputError, match=f"^{name}: got {number}, expected "):
        called(**given, **{name: number})
    assert not list(tmp_path.iterdir())


def test_numbers_of_all_functions_are_tried() -> None:
    assert {function for function, _name, _number in _numbers_outside()} == {
        "train", "evaluate", "generate", "export", "search", "import_model", "calibrate", "data_info", "data_lint",
        "data_preview",
    }  # fmt: skip


def test_a_callback_that_cannot_travel_is_refused(counterpoint: Command, tmp_path: Path) -> None:
    class Local(Callback):
        pass

    with pytest.raises(InputError, match=r"callbacks\.1: got a Local that cannot be pickled .*; define its class"):
        _train(tmp_path, [Noting(), Local()])


def test_a_callback_of_a_program_in_no_file_is_refused(
    counterpoint: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = ModuleType("__main__")
    main.Noted = type("Noted", (Callback,), {"__module__": "__main__"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(InputError, match=r"callbacks\.0: got a Noted of a program that is in no file"):
        _train(tmp_path, [main.Noted()])


@pytest.mark.parametrize(
    ("callbacks", "expected"),
    [
        (None, r"callbacks: got a NoneType, expected a list of callbacks"),
        (Noting(), r"callbacks: got a Noting, expected a list of callbacks; put it in one"),
        ([Noting(), len], r"callbacks\.1: got a builtin_function_or_method, expected a counterpoint\.Callback"),
        ([Noting], r"callbacks\.0: got the class Noting, expected a counterpoint\.Callback; call the class"),
    ],
)
def test_what_is_no_callback_is_refused_before_anything_starts(callbacks: Any, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected):
        _train(tmp_path, callbacks)
    assert not list(tmp_path.iterdir())


class Raising(Noting):
    """Raises what it is given, at every save."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def after_save(self, context: SaveContext) -> None:
        raise self.error


def test_what_a_callback_raises_is_said_with_its_name(tmp_path: Path) -> None:
    def save(error: Exception) -> None:
        Callbacks([Raising(error)], tmp_path, 0, 8, lambda: None).saved(2, tmp_path)

    with pytest.raises(RunError, match=r"^callback Raising\.after_save: ValueError: too high$") as raised:
        save(ValueError("too high"))
    assert isinstance(raised.value.__cause__, ValueError)
    with pytest.raises(DataError, match=r"^as it is$"):
        save(DataError("as it is"))


def test_what_is_wrong_is_said_as_by_the_commands(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.steps: got 0, expected at least 1"):
        counterpoint.train(EXAMPLE, ["training.steps=0"])
    with pytest.raises(ConfigError, match=r'^overrides: got "training\.steps=3", expected a list'):
        counterpoint.load_config(EXAMPLE, "training.steps=3")
    with pytest.raises(CheckpointError, match=r"no config\.yaml, expected a run folder"):
        counterpoint.open_run(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.yaml, expected a run folder"):
        counterpoint.evaluate(tmp_path)
    with pytest.raises(CheckpointError, match=r"no config\.yaml, expected a run folder"):
        counterpoint.generate(str(tmp_path), "What?")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: counterpoint.verify(EXAMPLE, dtype="bfloat16"), r"^dtype: got 'bfloat16', expected one of "),
        (lambda: counterpoint.evaluate("run", temperature=-1.0), r"^temperature: got -1\.0, expected 0 "),
        (lambda: counterpoint.evaluate("run", top_p=0.0), r"^top_p: got 0\.0, expected more than 0"),
        (lambda: counterpoint.generate("run", seed=-1), r"^seed: got -1, expected 0 or more"),
        (lambda: counterpoint.generate("run", images=["x.png"]), r"^images x\.png: cannot be read \(there is no such"),
        (lambda: counterpoint.generate("run", "<image><image>", images=[__file__]), r"^prompts: 2 marks <image> for 1"),
    ],
)
def test_errors_name_arguments_as_the_function_has_them(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        call()


def test_a_port_is_named_as_the_caller_names_it(counterpoint: Command, tmp_path: Path) -> None:
    keys = [f"run.dir={tmp_path / 'run'}", "run.device=cpu"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        import counterpoint as package

        with pytest.raises(InputError, match=rf"^port: got {port}, which is in use"):
            package.train(EXAMPLE, keys, port=port)
        assert f"error: --port: got {port}" in counterpoint("train", EXAMPLE, "--port", port, *keys).err
        # A program that has run a command is called by its author again.
        with pytest.raises(InputError, match=rf"^port: got {port}, which is in use"):
            package.train(EXAMPLE, keys, port=port)


def test_a_run_without_metrics_has_none(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(EXAMPLE.read_text())
    run = counterpoint.open_run(tmp_path)
    assert run.config.training.steps == 20
    assert (run.checkpoints, run.losses, run.evaluation) == ((), {}, None)


def _train(folder: Path, callbacks: Any) -> None:
    import counterpoint as package

    package.train(EXAMPLE, [f"run.dir={folder / 'run'}", "run.device=cpu"], callbacks=callbacks)


def test_a_config_is_read_again_with_overrides() -> None:
    config = counterpoint.load_config(EXAMPLE)
    assert counterpoint.load_config(config) == config
    assert counterpoint.load_config(config, ["training.steps=3"]).training.steps == 3
