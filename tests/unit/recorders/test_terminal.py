"""A terminal shows a bar under the status of a run, which leave the lines around them readable; elsewhere lines do."""

import io
import os
import pty
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from counterpoint.console import begin_line, say
from counterpoint.recorders.kind import Record, Recording
from counterpoint.recorders.terminal import Terminal, fitting
from tests.unit.screen import Screen

RECORDING = Recording(folder=Path("run"), steps=700, goes_on=False)
STATUS = ("loss 5.1234", "lr 1.00e-4", "1,234,567 tokens/s", "norm 1.234", "peak 12.3 GiB", "imbalance 1.07")
WHOLE = "  ".join(STATUS)
EVENT = "evaluation held_out  loss 4.5678"
_QUIET_SECONDS = 0.1
"""Shorter than the time between two pictures of the bar."""


class Device:
    """A terminal's two ends: what programs write on, and what a user reads and types at."""

    def __init__(self) -> None:
        self._user, follower = pty.openpty()
        self.terminal = os.fdopen(follower, "w")

    def press(self, key: bytes) -> None:
        """Type a key, which the terminal echoes."""
        os.write(self._user, key)

    def read(self) -> str:
        """All that was written since."""
        self.terminal.flush()
        written = b""
        while select.select([self._user], [], [], _QUIET_SECONDS)[0]:
            written += os.read(self._user, 65536)
        return written.decode()

    def close(self) -> None:
        """Take both ends away."""
        self.terminal.close()
        os.close(self._user)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Device]]:
    """Makes terminals."""
    monkeypatch.setenv("TERM", "xterm")
    made: list[Device] = []

    def make() -> Device:
        made.append(Device())
        return made[-1]

    yield make
    for one in made:
        one.close()


def console_on(out: io.StringIO, width: int) -> Console:
    return Console(file=out, force_terminal=True, width=width, color_system=None, legacy_windows=False)


def run(console: Console, steps: int = 350) -> Terminal:
    """A run that is under way, in which an event came before the last step."""
    view = Terminal(RECORDING, console)
    view.record(Record(step=1, status=("loss 9.9",)))
    view.record(Record(step=100, words=EVENT))
    view.record(Record(step=steps, status=STATUS))
    return view


@pytest.mark.parametrize(("width", "shown"), [(60, 4), (80, 5), (120, 6)])
def test_a_status_has_the_phrases_that_fit_whole(width: int, shown: int) -> None:
    out, screen = io.StringIO(), Screen(width)
    run(console_on(out, width)).close(True)
    screen.write(out.getvalue().replace("\n", "\r\n"))
    event, status, bar = screen.lines
    assert event == f"step 100/700  {EVENT}"
    assert status == "  ".join(STATUS[:shown])
    assert "\u2501" * 5 in bar
    assert "350/700" in bar
    assert not screen.is_cursor_hidden


def test_the_first_phrase_is_shown_however_narrow_it_is() -> None:
    assert list(fitting(STATUS, 4)) == [STATUS[0]]
    assert list(fitting(STATUS, len(WHOLE))) == list(STATUS)
    assert list(fitting(STATUS, len(WHOLE) - 1)) == list(STATUS[:-1])
    assert list(fitting((), 4)) == []


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_is_said_last_stands_below_the_status(
    is_killed: bool, device: Callable[[], Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a signal was echoed into the bar, and where nobody was left to take the bar down."""
    screen, (during, after) = Screen(80), (device(), device())
    view = run(Console(file=during.terminal, width=80, color_system=None))
    screen.write(during.read())
    during.press(b"\x03")
    screen.write(during.read())
    view.record(Record(step=351, status=STATUS))
    if is_killed:
        # What the bar writes from here on is not seen.
        screen.write(during.read())
    view.close(True)
    if not is_killed:
        screen.write(during.read())
    monkeypatch.setattr("sys.stdout", after.terminal)
    begin_line()
    say("run folder: runs/emoji")
    say("next: counterpoint report runs/emoji")
    screen.write(after.read())
    *above, folder, following = screen.lines
    assert (folder, following) == ("run folder: runs/emoji", "next: counterpoint report runs/emoji")
    assert above[:2] == [f"step 100/700  {EVENT}", "  ".join(STATUS[:5])]
    assert ["351/700" in line for line in above[2:]] == ([] if is_killed else [True])
    assert not screen.is_cursor_hidden


def test_the_cursor_comes_back_after_a_bar_that_had_just_begun(
    device: Callable[[], Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank that is killed in the moment in which rich hides the cursor does not show it again."""
    terminal, screen = device(), Screen(80)
    Console(file=terminal.terminal, width=80, color_system=None).show_cursor(False)
    screen.write(terminal.read())
    assert screen.is_cursor_hidden
    monkeypatch.setattr("sys.stdout", terminal.terminal)
    begin_line()
    screen.write(terminal.read())
    assert not screen.is_cursor_hidden


def test_elsewhere_a_report_is_a_line() -> None:
    out = io.StringIO()
    view = Terminal(RECORDING, Console(file=out, width=80))
    view.record(Record(step=349))
    view.record(Record(step=350, status=STATUS))
    view.record(Record(step=350, words=EVENT))
    view.close(True)
    assert out.getvalue() == f"step 350/700  {WHOLE}\nstep 350/700  {EVENT}\n"
