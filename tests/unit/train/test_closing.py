"""The last lines of a training name its folder and the command to give next, which a shell takes as it stands."""

import shlex
from pathlib import Path

import pytest

from counterpoint.config.load import dump_config, load_config
from counterpoint.errors import RunError
from counterpoint.launch import SignalledError
from counterpoint.run import say_ending
from counterpoint.train.closing import Ending
from tests.parity.layouts import named_config, override

STEPS = 12


def ending(folder: Path, **more: object) -> Ending:
    return Ending(**({"folder": folder, "steps": STEPS, "has_answers": True} | more))  # type: ignore[arg-type]


def test_a_trained_run_is_evaluated_next_or_reported() -> None:
    folder = Path("runs/my emoji")
    assert list(ending(folder).lines()) == [
        "run folder: runs/my emoji (trained 12 of 12 steps)", "next: counterpoint evaluate 'runs/my emoji'",
    ]  # fmt: skip
    assert list(ending(folder, has_answers=False).lines())[1] == "next: counterpoint report 'runs/my emoji'"


def test_a_run_that_a_callback_stopped_is_not_called_trained(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-00000010").mkdir(parents=True)
    assert list(ending(tmp_path).lines()) == [
        f"run folder: {tmp_path} (its newest checkpoint is of step 10 of 12)",
        f"next: counterpoint train {tmp_path}/config.yaml",
    ]
    (tmp_path / "checkpoints" / "step-00000012").mkdir()
    assert next(ending(tmp_path).lines()) == f"run folder: {tmp_path} (trained 12 of 12 steps)"


@pytest.mark.parametrize("error", [RunError("rank 1, language.0F0: it failed"), SignalledError(2)])
def test_a_run_that_is_ended_goes_on_from_its_newest_checkpoint(error: RunError, tmp_path: Path) -> None:
    where, *log, _following = ending(tmp_path).lines(error)
    assert log == ([] if isinstance(error, SignalledError) else [f"log: {tmp_path}/logs"])
    assert where == f"run folder: {tmp_path} (no checkpoint)"
    for step in (5, 10):
        (tmp_path / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)
    where, *_log, following = ending(tmp_path, keys=("checkpoint.resume=auto",)).lines(error)
    assert where == f"run folder: {tmp_path} (its newest checkpoint is of step 10 of 12)"
    assert following == f"next: counterpoint train {tmp_path}/config.yaml checkpoint.resume=auto"


@pytest.mark.parametrize("resume", ["auto", "none"])
def test_the_next_command_resumes(resume: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = override(named_config("dp2_to_tp2"), {"run.dir": str(tmp_path), "checkpoint.resume": resume})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    say_ending(config, RunError("it failed"))
    command, name, *arguments = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next: "))
    assert (command, name) == ("counterpoint", "train")
    again = load_config(arguments[0], arguments[1:])
    assert again == override(config, {"checkpoint.resume": "auto"})


def test_a_failure_names_the_log_of_its_rank(tmp_path: Path) -> None:
    (tmp_path / "error.json").write_text('{"rank": 12}')
    log = tmp_path / "logs" / "rank_00012.log"
    for expected in (log.parent, log):
        assert list(ending(tmp_path).lines(RunError("it failed")))[1] == f"log: {expected}"
        log.parent.mkdir(exist_ok=True)
        log.touch()
