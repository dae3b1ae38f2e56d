"""The first failure of a run, known to all ranks through the store, so that one rank's error ends all of them."""

import json
import os
import signal
import sys
import traceback
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.distributed_c10d import Store

from counterpoint.check.blame import Position
from counterpoint.config.run_files import ERROR_FILE
from counterpoint.errors import CounterpointError, RunError
from counterpoint.launch import LOST_RANK, RUN_ID_PREFIX, SignalledError

_KEY = "counterpoint/failure"


class Trouble(StrEnum):
    """Kinds of failures that are not an exception on the rank that is named."""

    HANG = "HangError"
    LOST = LOST_RANK


@dataclass(frozen=True, slots=True)
class Failure:
    """The first failure of a run: its rank, its action, the kind of error, and one sentence.

    `step`, and `batch` of an evaluation, are set if known. `teller` is the rank that reports it, if another one;
    `waits` says which ranks each rank waits for.
    """

    rank: int
    action: str
    kind: str
    message: str
    exit_code: int
    traceback: str = ""
    step: int | None = None
    batch: int | None = None
    teller: int = -1
    waits: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"rank {self.rank}, {self.action}: {self.message}"


class FailureBoard:
    """Announces and reads the first failure; every method is safe on a thread of its own."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._store: Store = store.clone()  # type: ignore[attr-defined]  # in torch since 2.9, not in its stubs

    def announce(self, failure: Failure) -> Failure:
        """Record a failure unless another rank was first; returns the one that stands."""
        mine = json.dumps(asdict(failure))
        stands = self._store.compare_set(_KEY, "", mine)
        return Failure(**json.loads(stands.decode() or mine))

    def first(self) -> Failure | None:
        """The first failure of any rank, if there is one; does not block."""
        if not self._store.check([_KEY]):
            return None
        return Failure(**json.loads(self._store.get(_KEY).decode()))


_LOST_PEER = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error, or what it came from, only says that another process is gone."""
    cause: BaseException | None = error
    while cause is not None:
        # torch's and gloo's own; DCP's collection of errors is not an Exception.
        is_torch = isinstance(cause, RuntimeError) or not isinstance(cause, Exception)
        if is_torch and any(words in str(cause) for words in _LOST_PEER):
            return True
        cause = cause.__cause__
    return False


def failed_member(error: BaseException) -> int | None:
    """The group rank that a collective error names: in a save all ranks raise what one of them met."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CheckpointException):
            met = [rank for rank, (reason, _trace) in sorted(cause.failures.items()) if not is_lost_peer(reason)]
            return met[0] if met else None
        cause = cause.__cause__
    return None


def describe(error: BaseException, rank: int, position: Position) -> Failure:
    """An exception as a failure record; the traceback is kept for errors that are not the user's."""
    if isinstance(error, KeyboardInterrupt):
        error = SignalledError(signal.SIGINT)
    code = error.exit_code if isinstance(error, CounterpointError) else 1
    if isinstance(error, SystemExit):
        # Whatever raised it: a rank that leaves before the end has failed.
        code = error.code if isinstance(error.code, int) and error.code else 1
        error = RunError(f"it was asked to exit with {error.code!r} before the training ended")
    is_explained = code == 2 or isinstance(error, SignalledError)
    text = "" if is_explained else "".join(traceback.format_exception(error))
    words = str(error) or type(error).__name__
    kind = type(error).__name__
    return Failure(rank, str(position), kind, words, code, text, position.step, position.batch, teller=rank)


def is_heard() -> bool:
    """Whether another process says a failure on stderr: our own launcher says it last, torchrun and Slurm do not."""
    return os.environ.get("TORCHELASTIC_RUN_ID", "").startswith(RUN_ID_PREFIX)


def report(failure: Failure, folder: Path, heard: bool) -> None:
    """Write a failure into the run folder unless it is a request to stop; `heard` if another process says it on stderr.

    If it cannot be written, for example on a full disk, it is said on stderr in any case.
    """
    try:
        if failure.kind != SignalledError.__name__:
            write_report(failure, folder)
    except OSError as error:
        say(f"{failure} (and {folder}/error.json cannot be written: {error.strerror})")
        return
    if not heard:
        say(str(failure))


def say(words: str) -> None:
    """Write an error to stderr in one piece."""
    sys.stderr.write(f"error: {words}\n")
    sys.stderr.flush()


def write_report(failure: Failure, folder: Path) -> None:
    """Write `error.json` into the run folder, replacing an older one; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{ERROR_FILE}.partial"
    partial.write_text(json.dumps(asdict(failure), indent=2))
    partial.replace(folder / ERROR_FILE)
