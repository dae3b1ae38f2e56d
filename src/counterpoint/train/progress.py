"""The progress bar of a training: a bar on a terminal, a line per report elsewhere."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from counterpoint.console import console as plain

_BAR_COLUMNS = 20
"""Narrow enough to leave a terminal of 80 columns room for the words."""


class ProgressView:
    """Shows steps of `total` as they end; the words at the end of the bar are cut to the terminal's width."""

    def __init__(self, total: int, console: Console | None = None) -> None:
        self._console = plain(soft_wrap=False) if console is None else console
        self._total = total
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(_BAR_COLUMNS), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[words]}", markup=False, table_column=_rest()), console=self._console,
                expand=True,
            )  # fmt: skip
            self._task = self._bar.add_task("training", total=total, words="")
            self._bar.start()

    def advance(self, step: int) -> None:
        """Step `step` ended."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def report(self, step: int, words: str) -> None:
        """Say how it goes at a step."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, words=words)
        else:
            self._console.print(f"step {step}/{self._total}  {words}", soft_wrap=True)

    def announce(self, words: str) -> None:
        """Say something that belongs to no step."""
        self._console.print(words, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.stop()


def say(words: str) -> None:
    """Write a line on stdout where there is no bar."""
    plain().print(words)


def _rest() -> Column:
    return Column(ratio=1, no_wrap=True, overflow="ellipsis")
