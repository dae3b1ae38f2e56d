"""The progress of a preparation on a terminal; nothing is written anywhere else."""

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from counterpoint.console import console
from counterpoint.data.prepare.job import Tick

_MEGABYTE = 10**6


class ProgressBar:
    """A bar by shards, with the rows that were read, the megabytes of their items, and the bad ones."""

    def __init__(self) -> None:
        output = console(stderr=True)
        text = TextColumn("{task.fields[rows]:,} rows, {task.fields[megabytes]:,.0f} MB, {task.fields[bad]:,} left out")
        self._bar = Progress(
            BarColumn(), text, TimeRemainingColumn(), console=output, transient=True, disable=not output.is_terminal
        )
        self._task = self._bar.add_task("prepare", total=None, rows=0, megabytes=0.0, bad=0)
        self._sum = Tick()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def watch(self, tick: Tick) -> None:
        """Add progress."""
        self._sum = Tick(*(before + now for before, now in zip(self._sum, tick, strict=True)))
        total = self._sum
        self._bar.update(
            self._task, completed=total.shards, total=total.known, rows=total.rows, megabytes=total.bytes / _MEGABYTE,
            bad=total.bad,
        )  # fmt: skip
