"""The watchdog: ends a rank that makes no progress, or whose peer failed, and says where every rank stands."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from counterpoint.execute.failure import Failure, FailureBoard, report

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 2.0
"""How long a rank waits before it leaves, so that all others can write their stacks and the first error its report."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How long an action may take, and the key of the config that says so."""

    key: str
    seconds: float


class Watchdog:
    """Watches one process; `enter` says what it does now and how long that may take.

    After a hang every rank writes `hang-rank<r>.txt` with its action and all stacks into `folder`, and to stderr.
    """

    def __init__(self, rank: int, timeout_seconds: float, folder: Path, board: FailureBoard) -> None:
        self._rank, self._folder, self._board = rank, folder, board
        self._usual = Limit("watchdog.timeout_seconds", timeout_seconds)
        self.enter("start-up")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    @property
    def action(self) -> str:
        """What the rank is doing."""
        return self._action

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def enter(self, action: object, limit: Limit | None = None) -> None:
        """Note progress: `action` begins and may take as long as `limit` says (the timeout unless given)."""
        self._action = action if isinstance(action, str) else str(action)
        self._limit = self._usual if limit is None else limit
        self._deadline = time.monotonic() + self._limit.seconds

    def stop(self) -> None:
        """End the watch; the process is about to leave in order."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            failure = self._read(self._board.first)
            if failure is not None and failure.rank != self._rank:
                self._leave_after(failure)
            if time.monotonic() > self._deadline:
                self._hang()

    def _hang(self) -> None:
        action, limit = self._action, self._limit
        message = (
            f"rank {self._rank} made no progress in {action} for {limit.seconds:g} seconds; every rank's stack is in "
            f"{self._folder}/hang-rank*.txt; a longer {limit.key} helps only if it was slow, not stuck"
        )
        failure = Failure(self._rank, action, "HangError", message, exit_code=4)
        stands = self._read(lambda: self._board.announce(failure)) or failure
        if stands == failure:
            report(failure, self._folder, is_heard=True)
        self._leave_after(stands)

    def _leave_after(self, failure: Failure) -> None:
        if failure.kind == "HangError":
            self._dump()
        if self._stop.wait(_GRACE_SECONDS):
            return
        sys.stderr.flush()
        os._exit(failure.exit_code)

    def _dump(self) -> None:
        header = f"rank {self._rank} stands in {self._action}\n"
        # A full disk must not keep this thread from ending the process.
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / f"hang-rank{self._rank}.txt").open("w") as file:
                file.write(header)
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        sys.stderr.write(header)
        sys.stderr.flush()

    @staticmethod
    def _read(call: Callable[[], Failure | None]) -> Failure | None:
        """The board's answer, or None once the store is gone because the launcher ended."""
        try:
            return call()
        except RuntimeError:
            return None
