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
from counterpoint.recorders.kind import Record, Recording

_BAR_COLUMNS = 20
"""Narrow enough to leave a terminal of 80 columns room for the words."""


class Terminal:
    """Shows steps as they end; the words at the end of the bar are cut to the terminal's width."""

    def __init__(self, recording: Recording, console: Console | None = None) -> None:
        self._console = plain(soft_wrap=False) if console is None else console
        self._total = recording.steps
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                BarColumn(_BAR_COLUMNS), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[words]}", markup=False, table_column=_rest()), console=self._console,
                expand=True,
            )  # fmt: skip
            self._task = self._bar.add_task("training", total=self._total, words="")
            self._bar.start()

    def record(self, record: Record) -> None:
        if not record.of_step:
            self._console.print(record.words, soft_wrap=True)
        elif self._bar is not None:
            self._bar.update(self._task, completed=record.step)
            if record.words:
                self._bar.update(self._task, words=record.words)
        elif record.words:
            self._console.print(f"step {record.step}/{self._total}  {record.words}", soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


def _rest() -> Column:
    return Column(ratio=1, no_wrap=True, overflow="ellipsis")
