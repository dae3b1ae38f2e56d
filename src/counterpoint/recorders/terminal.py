"""The output of a training on stdout: a status line and a progress bar on a terminal, else a line per logged step."""

from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from counterpoint.console import console as plain
from counterpoint.recorders.kind import Record, Recording

_GAP = "  "
_REFRESHES_PER_SECOND = 4

_ECHO_COLUMNS = 3
"""Columns left free after the bar, so that the `^C` that a terminal echoes there does not wrap."""


class Terminal:
    """Shows records; on a terminal, events scroll above the status and the bar."""

    def __init__(self, recording: Recording, console: Console | None = None) -> None:
        self._console = plain(soft_wrap=False) if console is None else console
        self._total = recording.steps
        self._view = _View(self._console, recording.steps) if self._console.is_interactive else None

    def record(self, record: Record) -> None:
        if record.words:
            self._say(record, record.words)
        if self._view is not None:
            self._view.update(record.step, record.status)
        elif record.status:
            self._say(record, _GAP.join(record.status))

    def close(self, is_finished: bool) -> None:  # noqa: ARG002  # what is shown stays as it is
        if self._view is not None:
            self._view.stop()

    def _say(self, record: Record, words: str) -> None:
        step = f"step {record.step}/{self._total}{_GAP}" if record.of_step else ""
        self._console.print(f"{step}{words}", soft_wrap=True)


class _View:
    """The last lines of a terminal during a run: the status, and the bar below it."""

    def __init__(self, console: Console, steps: int) -> None:
        self._console = console
        self._status: Sequence[str] = ()
        self._bar = Progress(
            BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console,
            expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task("training", total=steps)
        self._is_begun = False
        self._live = Live(
            get_renderable=self._shown, console=console, refresh_per_second=_REFRESHES_PER_SECOND,
            vertical_overflow="visible",
        )  # fmt: skip
        self._live.start(refresh=True)
        # Otherwise it would stay hidden if the rank is killed.
        console.show_cursor(True)

    def update(self, step: int, status: Sequence[str]) -> None:
        """Move the bar to a step, and show a new status if there is one."""
        if not self._is_begun and step > 1:
            # The time that the bar shows does not include steps before a resume.
            self._bar.reset(self._task, completed=step - 1)
        self._is_begun = True
        self._bar.update(self._task, completed=step)
        if status:
            self._status = status
            self._live.refresh()

    def stop(self) -> None:
        """Keep the last state visible, with the cursor below it."""
        self._live.stop()

    def _shown(self) -> RenderableType:
        status = Text(_GAP.join(fitting(self._status, self._console.width)), no_wrap=True, overflow="ellipsis")
        bar = Constrain(self._bar.get_renderable(), self._console.width - _ECHO_COLUMNS)
        return Group(status, bar) if self._status else bar


def fitting(phrases: Sequence[str], columns: int) -> Iterator[str]:
    """The leading phrases that fit completely into a line of `columns` columns, at least one."""
    left = columns
    for number, phrase in enumerate(phrases):
        left -= len(phrase) + (len(_GAP) if number else 0)
        if number and left < 0:
            return
        yield phrase
