"""The first failure of a run, known to all ranks through the store, so that one rank's error ends all of them."""

import json
import signal
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.distributed.distributed_c10d import Store

from counterpoint.errors import CounterpointError
from counterpoint.launch import SignalledError

_KEY = "counterpoint/failure"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong first: on which rank, during which action, which kind of error, and its one sentence."""

    rank: int
    action: str
    kind: str
    message: str
    exit_code: int
    traceback: str = ""

    def __str__(self) -> str:
        return f"rank {self.rank}, {self.action}: {self.message}"


class FailureBoard:
    """Announces and reads the first failure; every method is safe on a thread of its own."""

    def __init__(self, store: Store) -> None:
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
    """Whether an error only says that another process is gone."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _LOST_PEER)


def describe(error: BaseException, rank: int, action: str) -> Failure:
    """An exception as a failure record; the traceback is kept for errors that are not the user's."""
    if isinstance(error, KeyboardInterrupt):
        error = SignalledError(signal.SIGINT)
    code = error.exit_code if isinstance(error, CounterpointError) else 1
    is_explained = code == 2 or isinstance(error, SignalledError)
    text = "" if is_explained else "".join(traceback.format_exception(error))
    return Failure(rank, action, type(error).__name__, str(error) or type(error).__name__, code, text)


def report(failure: Failure, folder: Path, is_heard: bool) -> None:
    """Write a failure into the run folder unless it is a wish to stop; `is_heard` if somebody else says it on stderr.

    What cannot be written there, on a full disk for one, is said here whoever listens.
    """
    try:
        if failure.kind != SignalledError.__name__:
            write_report(failure, folder)
    except OSError as error:
        say(f"{failure} (and {folder}/error.json cannot be written: {error.strerror})")
        return
    if not is_heard:
        say(str(failure))


def say(words: str) -> None:
    """Write an error to stderr in one piece."""
    sys.stderr.write(f"error: {words}\n")
    sys.stderr.flush()


def write_report(failure: Failure, folder: Path) -> None:
    """Write `error.json` into the run folder, replacing an older one; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "error.json.partial"
    partial.write_text(json.dumps(asdict(failure), indent=2))
    partial.replace(folder / "error.json")
