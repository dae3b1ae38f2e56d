"""The last lines of a training: the run folder, the steps trained, and the command to run next."""

import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from counterpoint.config.run_files import CONFIG_FILE, ERROR_FILE
from counterpoint.errors import CounterpointError
from counterpoint.execute.rank_log import LOGS_FOLDER, log_file
from counterpoint.launch import SignalledError
from counterpoint.train.state.checkpoint import list_checkpoints


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run: its folder as given in the config, its steps, and whether it has answers to evaluate.

    `keys` are overrides that the config in the run folder needs for resuming.
    """

    folder: Path
    steps: int
    has_answers: bool
    keys: tuple[str, ...] = ()

    def lines(self, error: CounterpointError | None = None) -> Iterator[str]:
        """The lines to print at the end of a run, before the error if one ended it.

        A run that ends before its last step without an error was stopped by a callback, and has saved a checkpoint.
        """
        saved = list_checkpoints(self.folder)
        newest = f"its newest checkpoint is of step {saved[-1]} of {self.steps}" if saved else "no checkpoint"
        if error is None and (not saved or self.steps in saved):
            yield f"run folder: {self.folder} (trained {self.steps} of {self.steps} steps)"
            yield f"next: {self._command('evaluate' if self.has_answers else 'report', self.folder)}"
            return
        yield f"run folder: {self.folder} ({newest})"
        if error is not None and not isinstance(error, SignalledError):
            yield f"log: {self._log()}"
        yield f"next: {self._command('train', self.folder / CONFIG_FILE, *self.keys)}"

    def _log(self) -> Path:
        """The log of the rank that failed, or the folder of all logs."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            file = log_file(self.folder, int(json.loads((self.folder / ERROR_FILE).read_text())["rank"]))
            if file.exists():
                return file
        return self.folder / LOGS_FOLDER

    def _command(self, name: str, *arguments: Path | str) -> str:
        return shlex.join(("counterpoint", name, *map(str, arguments)))
