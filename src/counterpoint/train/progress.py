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


class ProgressView:
    """Shows steps of `total` as they end."""

    def __init__(self, total: int) -> None:
        self._console = Console()
        self._total = total
        self._bar: Progress | None = None
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
                TextColumn("{task.fields[words]}"), console=self._console,
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
            self._console.print(f"step {step}/{self._total}  {words}", highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal in order."""
        if self._bar is not None:
            self._bar.stop()
