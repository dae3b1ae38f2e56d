"""A rank's log has what it says, its warnings and its errors; what cannot be logged ends nothing."""

import errno
import io
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterpoint.errors import InputError, RunError
from counterpoint.execute.rank_log import OWN, log_file, rank_log
from counterpoint.execute.session import _write_in_log

TORCH = logging.getLogger("torch.distributed")
OTHER = logging.getLogger("somebody.elses")
CHATTY = logging.getLogger("somebody.chatty")
CHATTY.setLevel(logging.DEBUG)
CHATTY.propagate = False


@pytest.fixture(autouse=True)
def lenient() -> Iterator[None]:
    """No warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield


def text_of(run: Path, rank: int = 3) -> str:
    return log_file(run, rank).read_text()


def say_all(number: int = 1) -> None:
    OWN.info("step %d", number)
    TORCH.warning("torch's %d", number)
    OTHER.warning("theirs %d", number)
    for quiet in (OTHER, CHATTY):
        quiet.info("too quiet %d", number)
    warnings.warn(f"careful {number}", stacklevel=1)


@pytest.mark.parametrize("is_leader", [False, True])
def test_all_that_a_rank_says_is_in_its_file(
    is_leader: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a process of its own, in which pytest does not listen.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with rank_log(tmp_path, 3, is_leader=is_leader):
        say_all()
    assert log_file(tmp_path, 3) == tmp_path / "logs" / "rank_00003.log"
    lines = text_of(tmp_path).splitlines()
    expected = (
        r"INFO counterpoint: rank 3 starts on \S+, process \d+", r"INFO counterpoint: step 1",
        r"WARNING torch\.distributed: torch's 1", r"WARNING somebody\.elses: theirs 1",
        r"WARNING py\.warnings: .*UserWarning: careful 1", r"INFO counterpoint: rank 3 ends in order",
    )  # fmt: skip
    said = [line for line in lines if re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)]
    for line, pattern in zip(said, expected, strict=True):
        assert re.search(f"{pattern}$", line), line
    heard = capfd.readouterr().err
    assert ("theirs 1" in heard) == ("careful 1" in heard) == is_leader


def test_a_run_that_goes_on_appends_and_nothing_is_left_behind(tmp_path: Path) -> None:
    before = (OWN.level, OWN.propagate, list(OWN.handlers), list(TORCH.handlers), warnings.showwarning)
    for start in (1, 2):
        with rank_log(tmp_path, 3, is_leader=True):
            OWN.info("start %d", start)
    assert re.findall(r"start \d", text_of(tmp_path)) == ["start 1", "start 2"]
    assert (OWN.level, OWN.propagate, list(OWN.handlers), list(TORCH.handlers), warnings.showwarning) == before
    OTHER.warning("after the end")
    assert "after the end" not in text_of(tmp_path)


def test_errors_have_a_traceback_unless_they_are_the_users(tmp_path: Path) -> None:
    with rank_log(tmp_path, 3, is_leader=False):
        for error in (RunError("it broke"), InputError("it is wrong")):
            try:
                raise error
            except (RunError, InputError) as caught:
                _write_in_log(caught, 3)
    text = text_of(tmp_path)
    assert "ERROR counterpoint: RunError: it broke\nTraceback (most recent call last):" in text
    assert "ERROR counterpoint: InputError: it is wrong\n" in text
    assert text.count("Traceback") == 1


def test_the_noise_of_one_line_is_bounded(tmp_path: Path) -> None:
    with rank_log(tmp_path, 3, is_leader=False):
        for number in range(150):
            say_all(number)
            warnings.warn_explicit(f"careful {number}", UserWarning, "m.py", 7)
    text = text_of(tmp_path)
    assert len(re.findall(r"theirs \d+", text)) == len(re.findall(r"torch's \d+", text)) == 100
    assert len(re.findall(r"m.py:7: UserWarning: careful \d+", text)) == 100
    assert text.count("(no more from this line)") == 4
    assert len(re.findall(r"step \d+", text)) == 150


def test_credentials_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "loss")
    with rank_log(tmp_path, 3, is_leader=False):
        OTHER.warning("got 0123456789abcdef at https://me:hush@host/path, a loss")
        try:
            raise RunError("https://me:hush@host")
        except RunError:
            OWN.exception("it failed")
    text = text_of(tmp_path)
    assert "got *** at https://***@host/path, a loss" in text
    assert "hush" not in text


def test_without_a_file_training_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "logs").write_text("in the way")
    with rank_log(tmp_path, 3, is_leader=True):
        OWN.info("never written")
    assert re.fullmatch(r"error: rank 3 has no log: \S+ cannot be written \(.+\); training goes on\n",
                        capfd.readouterr().err)  # fmt: skip


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with rank_log(tmp_path, 3, is_leader=False):
        handler = next(one for one in OWN.handlers if isinstance(one, logging.FileHandler))
        full: Any = Full()
        written = handler.setStream(full)
        for number in range(3):
            OWN.info("%d", number)
        assert written is not None
        handler.setStream(written)
    heard = capfd.readouterr().err
    assert heard.count("No space left on device") == 1
    assert "training goes on" in heard


def test_a_crash_leaves_its_stack(tmp_path: Path) -> None:
    code = (
        "import ctypes; from pathlib import Path; from counterpoint.execute.rank_log import rank_log\n"
        f"with rank_log(Path({str(tmp_path)!r}), 3, is_leader=False): ctypes.string_at(0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode < 0
    assert "Fatal Python error: Segmentation fault" in text_of(tmp_path)
    assert 'File "<string>", line 2' in text_of(tmp_path)
