"""The log of a rank: a file in the run folder with what it says, its warnings and its errors with their traceback."""

import faulthandler
import logging
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from counterpoint.credentials import without_credentials
from counterpoint.execute.failure import say

OWN = logging.getLogger("counterpoint")
"""The logger of what this package writes to logs only; other packages' handlers do not receive it."""

LOGS_FOLDER = "logs"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_WARNINGS = "py.warnings"
"""The logger that `logging.captureWarnings` gives warnings to."""

_MOST_OF_ONE_PLACE = 100
"""Most records from one line of another package's code; later ones say nothing new."""


def log_file(run: Path, rank: int) -> Path:
    """The log of a rank in a run folder."""
    return run / LOGS_FOLDER / f"rank_{rank:05d}.log"


@contextmanager
def rank_log(run: Path, rank: int, *, is_leader: bool) -> Iterator[None]:
    """Append to the log of a rank in a run folder while this is open.

    Warnings and other packages' logging go into it; only the leader also shows them on stderr, so that they are read
    once. If the file cannot be opened, that is said and the rank goes on.
    """
    try:
        (file := log_file(run, rank)).parent.mkdir(parents=True, exist_ok=True)
        handler = _File(file)
    except OSError as error:
        say(f"rank {rank} has no log: {log_file(run, rank)} cannot be written ({error.strerror}); training goes on")
        yield
        return
    handler.setFormatter(_Formatter(_FORMAT))
    handler.addFilter(_FewOfEach())
    assert handler.stream is not None, "the file is open from the first"
    with _attached(handler, is_leader), _crashes_written(handler.stream):
        OWN.info("rank %d starts on %s, process %d", rank, socket.gethostname(), os.getpid())
        yield
        OWN.info("rank %d ends in order", rank)


@contextmanager
def _attached(handler: logging.Handler, is_leader: bool) -> Iterator[None]:
    """Attach a handler to all loggers: the root, those that do not propagate to it, such as torch's, and ours."""
    known = logging.Logger.manager.loggerDict.values()
    alone = [logger for logger in known if isinstance(logger, logging.Logger) and not logger.propagate]
    root, before = logging.getLogger(), (OWN.propagate, OWN.level)
    added = [(logger, handler) for logger in dict.fromkeys((root, OWN, *alone))]
    if is_leader and logging.lastResort is not None and not root.handlers:
        added.append((root, logging.lastResort))
    for logger, one in added:
        logger.addHandler(one)
    OWN.propagate = False
    OWN.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        OWN.propagate, level = before
        OWN.setLevel(level)
        for logger, one in added:
            logger.removeHandler(one)
        handler.close()


@contextmanager
def _crashes_written(file: TextIO) -> Iterator[None]:
    """Let a crash of the process, such as a segmentation fault, write the stacks of its threads to a file."""
    was_on_stderr = faulthandler.is_enabled()
    faulthandler.enable(file)
    try:
        yield
    finally:
        faulthandler.disable()
        if was_on_stderr:
            with suppress(ValueError, OSError):
                faulthandler.enable(sys.__stderr__ or sys.stderr)


class _Formatter(logging.Formatter):
    """Writes no credentials, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return without_credentials(super().format(record), os.environ)


class _File(logging.FileHandler):
    """Says once that it cannot write, for example on a full disk, and lets its rank go on."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802  # as logging calls it
        if not self._has_failed:
            say(f"{self.baseFilename} cannot be written ({sys.exc_info()[1]}); training goes on")
        self._has_failed = True


class _FewOfEach(logging.Filter):
    """Lets warnings and errors of other packages pass until enough have come from the same line."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(OWN.name):
            return True
        if record.levelno < logging.WARNING:
            return False
        # A warning begins with where it comes from: `module.py:12: UserWarning: ...`.
        place = f"{record.pathname}:{record.lineno}" if record.name != _WARNINGS else str(record.msg).split(": ")[0]
        self._seen[place] += 1
        if self._seen[place] == _MOST_OF_ONE_PLACE:
            record.msg = f"{record.msg} (no more from this line)"
        return self._seen[place] <= _MOST_OF_ONE_PLACE
