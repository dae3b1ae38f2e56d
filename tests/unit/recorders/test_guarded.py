"""No recorder ends a training: what fails is said once, what is slow is waited for at the end, and not for long."""

import threading
import time
from pathlib import Path

import pytest

from counterpoint.recorders.guarded import Background, Guarded
from counterpoint.recorders.kind import Record, Recorder, Recording
from counterpoint.recorders.opened import open_recorders

ENDLESS_SECONDS = 60.0
RECORD = Record(step=1, values={"loss": 1.0})


class Failing:
    """Raises at every call, and counts them."""

    def __init__(self) -> None:
        self.calls = 0

    def record(self, _record: Record) -> None:
        self.calls += 1
        raise OSError(f"at https://me:hush@host\n in call {self.calls}")

    def close(self, is_finished: bool) -> None:
        raise RuntimeError(is_finished)


class Keeping:
    """Keeps what it hears, each as soon as it may, and says on which thread."""

    def __init__(self, may_go_on: threading.Event) -> None:
        self.heard: list[Record | bool] = []
        self.threads: set[int] = set()
        self._may_go_on = may_go_on

    def record(self, record: Record) -> None:
        self._may_go_on.wait(ENDLESS_SECONDS)
        self.heard.append(record)
        self.threads.add(threading.get_ident())

    def close(self, is_finished: bool) -> None:
        self.heard.append(is_finished)


def test_what_fails_is_said_once_without_credentials_and_tried_again() -> None:
    failing = Failing()
    said: list[str] = []
    recorder = Guarded("somewhere", lambda: failing, said.append)
    for _step in range(3):
        recorder.record(RECORD)
    recorder.close(True)
    assert said == ["somewhere: OSError: at https://***@host in call 1; not all is recorded there, training goes on"]
    assert failing.calls == 3


def test_what_cannot_be_opened_hears_nothing() -> None:
    said: list[str] = []

    def opening() -> Recorder:
        raise ValueError("no such project")

    recorder = Guarded("somewhere", opening, said.append)
    recorder.record(RECORD)
    recorder.close(False)
    assert said == ["somewhere: ValueError: no such project; not all is recorded there, training goes on"]


def test_a_remote_one_hears_all_in_order_on_a_thread_of_its_own() -> None:
    may_go_on = threading.Event()
    said: list[str] = []
    keeping = Keeping(may_go_on)
    recorder = Background("somewhere", lambda: keeping, said.append, ENDLESS_SECONDS)
    records = [Record(step=step, values={"loss": 1.0}) for step in range(50)]
    for record in records:
        recorder.record(record)
    recorder.record(Record(step=51, words="for people"))
    assert keeping.heard == []
    may_go_on.set()
    recorder.close(False)
    assert keeping.heard == [*records, False]
    assert keeping.threads.isdisjoint({threading.get_ident()})
    assert said == []


def test_a_run_ends_though_a_remote_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterpoint.recorders.guarded._LONGEST_QUEUE", 5)
    may_go_on = threading.Event()
    said: list[str] = []
    recorder = Background("somewhere", lambda: Keeping(may_go_on), said.append, 0.2)
    began = time.monotonic()
    for _step in range(20):
        recorder.record(RECORD)
    recorder.close(True)
    assert time.monotonic() - began < ENDLESS_SECONDS / 2
    may_go_on.set()
    assert said == [
        "somewhere: 5 records are waiting; later ones are lost, training goes on",
        "somewhere: not done 0 seconds after the run; what it had not sent is lost",
    ]


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logged: list[str] = []
    gone = Recording(folder=tmp_path / "gone", steps=3, goes_on=True)
    recorders = open_recorders((), gone, logged.append)
    for recorder in recorders:
        recorder.record(Record(step=1, values={"loss": 1.0}, status=("loss 1.0",)))
        recorder.close(True)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["metrics.jsonl", "step 1/3  loss 1.0"]
    assert logged == said[:1]


def test_a_terminal_that_is_gone_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    recorders = open_recorders((), Recording(folder=tmp_path, steps=3, goes_on=False), logged.append)

    class Closed:
        encoding = "utf-8"

        def write(self, _text: str) -> int:
            raise BrokenPipeError("nobody reads")

        def flush(self) -> None: ...

    monkeypatch.setattr("sys.stdout", Closed())
    for step in (1, 2):
        for recorder in recorders:
            recorder.record(Record(step=step, values={"loss": 1.0}, status=("loss 1.0",)))
    monkeypatch.undo()
    for recorder in recorders:
        recorder.close(True)
    assert len(logged) == 1
    assert logged[0].startswith("the terminal: ")
    assert logged[0].endswith("; not all is recorded there, training goes on")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
