"""The last lines of a training: where it lies, how far it has come, and the command to give next."""

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
    """A run that ends: its folder as the config gives it, its steps, and whether it has answers to evaluate.

    `keys` are to be changed in the config that lies in its folder for a run that goes on from there.
    """

    folder: Path
    steps: int
    has_answers: bool
    keys: tuple[str, ...] = ()

    def lines(self, error: CounterpointError | None = None) -> Iterator[str]:
        """What to say at the end, or ahead of the error that ended it, which is said last.

        A run that ended without an error before its last step was stopped by a callback, and has saved.
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
        """The log of the rank that the error is of, or the folder of all logs."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            file = log_file(self.folder, int(json.loads((self.folder / ERROR_FILE).read_text())["rank"]))
            if file.exists():
                return file
        return self.folder / LOGS_FOLDER

    def _command(self, name: str, *arguments: Path | str) -> str:
        return shlex.join(("counterpoint", name, *map(str, arguments)))
