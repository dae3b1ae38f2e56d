"""How a failure is told: on a full disk, after a signal, by a watchdog."""

import json
import os
import signal
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint.api import CheckpointException

from counterpoint.check.blame import Position
from counterpoint.config.training import WatchdogConfig
from counterpoint.errors import HangError, RunError
from counterpoint.execute import session
from counterpoint.execute.failure import Failure, FailureBoard, describe, failed_member, is_lost_peer, report
from counterpoint.execute.watchdog import Watchdog
from counterpoint.execute.whereabouts import Limit
from counterpoint.launch import SignalledError, _cause
from counterpoint.program import IMPORTED_AGAIN

BROKEN = Failure(2, "step 3: checkpoint", "RunError", "the loss is not finite", exit_code=1)
FULL = OSError(28, "No space left on device")


class Board(FailureBoard):
    """A board of one rank."""

    def __init__(self) -> None:
        super().__init__(HashStore())
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
    report(BROKEN, tmp_path / "run", heard=True)
    assert json.loads((tmp_path / "run" / "error.json").read_text())["message"] == BROKEN.message
    assert capsys.readouterr().err == ""
    report(BROKEN, tmp_path / "run", heard=False)
    assert capsys.readouterr().err == "error: rank 2, step 3: checkpoint: the loss is not finite\n"


@pytest.mark.parametrize("heard", [False, True])
def test_a_full_disk_does_not_hide_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], heard: bool
) -> None:
    monkeypatch.setattr(Path, "write_text", _full)
    report(BROKEN, tmp_path, heard)
    said = capsys.readouterr().err
    assert said.startswith("error: rank 2, step 3: checkpoint: the loss is not finite (and ")
    assert "No space left on device" in said


def test_a_wish_to_stop_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (SignalledError(signal.SIGTERM), KeyboardInterrupt()):
        failure = describe(error, 0, Position("start-up"))
        assert failure.kind == "SignalledError"
        assert failure.exit_code > 128
        assert failure.traceback == ""
        report(failure, tmp_path, heard=False)
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


def test_the_launcher_says_of_ranks_that_start_ranks_what_the_program_lacks(tmp_path: Path) -> None:
    report(BROKEN, tmp_path, heard=True)
    error = _cause(tmp_path / "error.json", First(IMPORTED_AGAIN), None)  # type: ignore[arg-type]
    assert error.exit_code == 2
    assert 'got a call that starts ranks outside of `if __name__ == "__main__":`' in str(error)


def test_a_report_has_the_last_word_after_a_signal(tmp_path: Path) -> None:
    report(BROKEN, tmp_path, heard=True)
    error = _cause(tmp_path / "error.json", First(1), signal.SIGTERM)  # type: ignore[arg-type]
    assert (error.exit_code, str(error)) == (1, str(BROKEN))


LOST = Failure(
    2,
    "step 3: language.0F0",
    "LostRankError",
    "rank 2 is gone and left no report: rank 3 lost its connection",
    1,
    step=3,
)


HUNG = replace(LOST, kind="HangError", exit_code=4)
"""What others see on GPUs, where no connection breaks."""


@pytest.mark.parametrize("seen", [LOST, HUNG])
@pytest.mark.parametrize(
    ("exitcode", "words"),
    [(5, "rank 2 ended with exit code 5 and left no report"), (-9, "rank 2 ended without a report, by SIGKILL")],
)
def test_the_launcher_says_how_a_rank_ended_that_others_only_miss(
    tmp_path: Path, seen: Failure, exitcode: int, words: str
) -> None:
    report(seen, tmp_path, heard=True)
    error = _cause(tmp_path / "error.json", First(exitcode), None)  # type: ignore[arg-type]
    assert str(error).startswith(words)
    assert "at step 3: rank 2 is gone" in str(error)
    written = json.loads((tmp_path / "error.json").read_text())
    assert (written["rank"], written["message"], written["step"]) == (2, str(error), 3)


def test_a_hang_that_was_found_has_the_last_word(tmp_path: Path) -> None:
    report(HUNG, tmp_path, heard=True)
    error = _cause(tmp_path / "error.json", First(4), None)  # type: ignore[arg-type]
    assert (error.exit_code, str(error)) == (4, str(HUNG))


def test_a_rank_that_ended_as_if_in_order_is_named_by_who_misses_it(tmp_path: Path) -> None:
    report(replace(LOST, rank=1), tmp_path, heard=True)
    error = _cause(tmp_path / "error.json", First(1), None)  # type: ignore[arg-type]
    assert str(error).startswith("rank 1, step 3: language.0F0: ")


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[pair.cc:547] Connection closed by peer [127.0.0.1]:1; GLHF!"), True),
        (RunError("the checkpoint could not be written"), False),
        (ConnectionResetError("Connection reset by peer"), False),
    ],
)
def test_a_lost_peer_is_told_from_other_errors(error: Exception, is_lost: bool) -> None:
    """A file server that hangs up is no peer; what a lost peer made fail is."""
    assert is_lost_peer(error) is is_lost
    outer = RunError("the checkpoint could not be written")
    outer.__cause__ = error
    assert is_lost_peer(outer) is is_lost


@pytest.mark.parametrize("limit", [None, Limit("watchdog.checkpoint_seconds", 40.0)])
def test_the_watchdog_names_the_limit_that_was_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: Limit | None
) -> None:
    board = Board()
    watchdog = Watchdog(1, 30.0, tmp_path, board)
    monkeypatch.setattr(watchdog, "_leave_after", lambda _failure: None)
    clock = time.monotonic()
    watchdog.enter("checkpoint", 4, limit)
    seconds, key = (30, "timeout_seconds") if limit is None else (40, "checkpoint_seconds")
    monkeypatch.setattr(time, "monotonic", lambda: clock + seconds + 1)
    watchdog._suspect()
    (failure,) = board.announced
    assert f"rank 1 made no progress in step 4: checkpoint for {seconds + 1} seconds" in failure.message
    assert f"a longer watchdog.{key} helps only if" in failure.message
    assert (failure.exit_code, failure.step) == (HangError.exit_code, 4)
    assert key in WatchdogConfig.model_fields


def test_a_hang_on_a_full_disk_still_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watchdog = Watchdog(1, 30.0, tmp_path, Board())
    monkeypatch.setattr(Path, "open", _full)
    watchdog._dump(Failure(0, "S", "HangError", "stuck", 4, waits={"1": "rank 0 (S)"}))
    assert capsys.readouterr().err == "rank 1 stands in start-up and waits for rank 0 (S)\n"


def test_of_a_save_the_rank_that_failed_is_told_from_those_that_hear_of_it() -> None:
    reasons = {0: RuntimeError("Connection closed by peer"), 2: OSError(28, "No space left on device")}
    failures = {rank: (reason, traceback.StackSummary()) for rank, reason in reasons.items()}
    error = RunError("the checkpoint could not be written")
    error.__cause__ = CheckpointException("save", failures)  # type: ignore[arg-type]
    assert failed_member(error) == 2
    assert failed_member(RunError("another")) is None


@pytest.mark.parametrize(("given", "code"), [(3, 3), (0, 1), (None, 1), ("words", 1)])
def test_a_rank_that_calls_exit_has_failed(given: object, code: int) -> None:
    failure = describe(SystemExit(given), 0, Position("training", 3, action="S", index=7))
    assert (failure.kind, failure.exit_code) == ("RunError", code)
    assert f"asked to exit with {given!r}" in failure.message


def test_other_errors_keep_their_traceback() -> None:
    position = Position("training", 3, action="S", index=7)
    assert "RunError" in describe(RunError("broken"), 0, position).traceback
    failure = describe(ValueError(), 0, position)
    assert (failure.message, failure.action, failure.step) == ("ValueError", "step 3: S", 3)


def test_a_signal_does_not_end_a_rank_while_it_says_why_it_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An agent sends one to all ranks as soon as one of them is gone, which the others are about to say."""
    heard: list[int] = []

    def report_in_time(*_arguments: object) -> Failure:
        os.kill(os.getpid(), signal.SIGTERM)
        return BROKEN

    monkeypatch.setattr(session, "join_world", _full)
    monkeypatch.setattr(session, "_report", report_in_time)
    monkeypatch.setenv("RANK", "2")
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        with pytest.raises(session.RankFailedError), session.open_session("meta", tmp_path, WatchdogConfig()):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM], "only the one after it counts"
