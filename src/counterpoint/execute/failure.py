"""The first failure of a run, known to all ranks through the store, so that one rank's error ends all of them."""

import json
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from torch.distributed.distributed_c10d import Store

from counterpoint.errors import CounterpointError

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
    code = error.exit_code if isinstance(error, CounterpointError) else 1
    text = "" if code == 2 else "".join(traceback.format_exception(error))
    return Failure(rank, action, type(error).__name__, str(error) or type(error).__name__, code, text)


def write_report(failure: Failure, folder: Path) -> None:
    """Write `error.json` into the run folder, replacing an older one."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "error.json.partial"
    partial.write_text(json.dumps(asdict(failure), indent=2))
    partial.replace(folder / "error.json")
