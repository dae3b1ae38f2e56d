"""How a failure is told: on a full disk, after a signal, by a watchdog."""

import json
import signal
from pathlib import Path
from typing import NoReturn

import pytest

from counterpoint.config.training import WatchdogConfig
from counterpoint.errors import HangError, RunError
from counterpoint.execute.failure import Failure, FailureBoard, describe, report
from counterpoint.execute.watchdog import Limit, Watchdog
from counterpoint.launch import SignalledError, _cause

BROKEN = Failure(2, "step 3: checkpoint", "RunError", "the loss is not finite", exit_code=1)
FULL = OSError(28, "No space left on device")


class Board(FailureBoard):
    """A board of one rank."""

    def __init__(self) -> None:
        self.announced: list[Failure] = []

    def announce(self, failure: Failure) -> Failure:
        self.announced.append(failure)
        return failure

    def first(self) -> Failure | None:
        return None


class First:
    """What the agent says of the rank that failed first."""

    def __init__(self, exitcode: int) -> None:
        self.exitcode = exitcode

    def get_first_failure(self) -> tuple[int, "First"]:
        return 2, self

    def signal_name(self) -> str:
        return signal.Signals(-self.exitcode).name


def _full(*_arguments: object, **_named: object) -> NoReturn:
    raise FULL


def test_a_failure_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report(BROKEN, tmp_path / "run", is_heard=True)
    assert json.loads((tmp_path / "run" / "error.json").read_text())["message"] == BROKEN.message
    assert capsys.readouterr().err == ""
    report(BROKEN, tmp_path / "run", is_heard=False)
    assert capsys.readouterr().err == "error: rank 2, step 3: checkpoint: the loss is not finite\n"


@pytest.mark.parametrize("is_heard", [False, True])
def test_a_full_disk_does_not_hide_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_heard: bool
) -> None:
    monkeypatch.setattr(Path, "write_text", _full)
    report(BROKEN, tmp_path, is_heard)
    said = capsys.readouterr().err
    assert said.startswith("error: rank 2, step 3: checkpoint: the loss is not finite (and ")
    assert "No space left on device" in said


def test_a_wish_to_stop_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (SignalledError(signal.SIGTERM), KeyboardInterrupt()):
        failure = describe(error, 0, "start-up")
        assert failure.kind == "SignalledError"
        assert failure.exit_code > 128
        assert failure.traceback == ""
        report(failure, tmp_path, is_heard=False)
        assert capsys.readouterr().err.startswith("error: rank 0, start-up: stopped by SIG")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("exitcode", "signalled", "code", "words"),
    [
        (143, None, 143, "stopped by SIGTERM"),
        (-signal.SIGINT, signal.SIGINT, 130, "stopped by SIGINT"),
        (-signal.SIGKILL, signal.SIGTERM, 1, "by SIGKILL"),
        (-signal.SIGTERM, signal.SIGTERM, 143, "stopped by SIGTERM"),
        (-signal.SIGKILL, None, 1, "by SIGKILL with exit code -9; a rank that is killed is often out of memory"),
        (4, None, 4, "left no"),
        # What multiprocessing gives when the fork server is gone.
        (255, None, 255, "ended with exit code 255 and left no"),
    ],
)
def test_what_the_launcher_says_without_a_report(
    tmp_path: Path, exitcode: int, signalled: int | None, code: int, words: str
) -> None:
    error = _cause(tmp_path / "error.json", First(exitcode), signalled)  # type: ignore[arg-type]
    assert error.exit_code == code
    assert words in str(error)


def test_a_report_has_the_last_word_after_a_signal(tmp_path: Path) -> None:
    report(BROKEN, tmp_path, is_heard=True)
    error = _cause(tmp_path / "error.json", First(1), signal.SIGTERM)  # type: ignore[arg-type]
    assert (error.exit_code, str(error)) == (1, str(BROKEN))


@pytest.mark.parametrize("limit", [None, Limit("watchdog.checkpoint_seconds", 40.0)])
def test_the_watchdog_names_the_limit_that_was_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Limit | None
) -> None:
    board = Board()
    watchdog = Watchdog(1, 30.0, tmp_path, board)
    monkeypatch.setattr(watchdog, "_leave_after", lambda _failure: None)
    watchdog.enter("step 4: checkpoint", limit)
    watchdog._hang()
    seconds, key = ("30", "timeout_seconds") if limit is None else ("40", "checkpoint_seconds")
    (failure,) = board.announced
    assert f"no progress in step 4: checkpoint for {seconds} seconds" in failure.message
    assert f"a longer watchdog.{key} helps only if" in failure.message
    assert failure.exit_code == HangError.exit_code
    assert key in WatchdogConfig.model_fields


def test_a_hang_on_a_full_disk_still_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watchdog = Watchdog(1, 30.0, tmp_path, Board())
    monkeypatch.setattr(Path, "open", _full)
    watchdog._dump()
    assert capsys.readouterr().err == "rank 1 stands in start-up\n"


def test_other_errors_keep_their_traceback() -> None:
    assert "RunError" in describe(RunError("broken"), 0, "S").traceback
    assert describe(ValueError(), 0, "S").message == "ValueError"
