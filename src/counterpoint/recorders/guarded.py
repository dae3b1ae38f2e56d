"""Wrappers of recorders: failures are reported once, and never end a run."""

import os
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import final

from counterpoint.credentials import without_credentials
from counterpoint.recorders.kind import Record, Recorder

_LONGEST_QUEUE = 10_000
"""Most records that may wait for a recorder; a step has few."""

LONGEST_PATIENCE_SECONDS = 60.0
"""Longest time that the end of a run waits for a remote recorder."""


@final
class Guarded:
    """A recorder whose first error is reported under `name`; if it cannot be opened, it receives no records."""

    def __init__(self, name: str, open_recorder: Callable[[], Recorder], say: Callable[[str], object]) -> None:
        self._name, self._say = name, say
        self._has_failed = False
        self._recorder: Recorder | None = None
        self._try(lambda: setattr(self, "_recorder", open_recorder()))

    def record(self, record: Record) -> None:
        """Pass a record on."""
        if (recorder := self._recorder) is not None:
            self._try(lambda: recorder.record(record))

    def close(self, is_finished: bool) -> None:
        """Close it, if it was opened."""
        if (recorder := self._recorder) is not None:
            self._try(lambda: recorder.close(is_finished))

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # rich calls sys.exit on a closed pipe.
            if not self._has_failed:
                self._has_failed = True
                reason = without_credentials(" ".join(str(error).split()), os.environ)
                self._say(
                    f"{self._name}: {type(error).__name__}: {reason}; not all is recorded there, training goes on"
                )


@final
class Background:
    """A recorder in its own thread: only the end of the run waits for it, for a limited time."""

    def __init__(
        self, name: str, open_recorder: Callable[[], Recorder], say: Callable[[str], object], patience_seconds: float
    ) -> None:
        self._name, self._say, self._patience = name, say, min(patience_seconds, LONGEST_PATIENCE_SECONDS)
        self._records: queue.Queue[Record | bool] = queue.Queue(_LONGEST_QUEUE)
        self._is_full = False
        self._thread = threading.Thread(target=self._work, args=(open_recorder,), name=f"recorder {name}", daemon=True)
        self._thread.start()

    def record(self, record: Record) -> None:
        """Queue a record for the thread; if the queue is full it is dropped, which is reported once."""
        if not record.values:
            return
        try:
            self._records.put_nowait(record)
        except queue.Full:
            if not self._is_full:
                self._is_full = True
                self._say(f"{self._name}: {_LONGEST_QUEUE} records are waiting; later ones are lost, training goes on")

    def close(self, is_finished: bool) -> None:
        """Wait until all queued records are recorded, or until the time limit."""
        deadline = time.monotonic() + self._patience
        with suppress(queue.Full):
            self._records.put(is_finished, timeout=self._patience)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._say(
                f"{self._name}: not done {self._patience:.0f} seconds after the run; what it had not sent is lost"
            )

    def _work(self, open_recorder: Callable[[], Recorder]) -> None:
        recorder = Guarded(self._name, open_recorder, self._say)
        while True:
            record = self._records.get()
            if isinstance(record, bool):
                recorder.close(record)
                return
            recorder.record(record)
