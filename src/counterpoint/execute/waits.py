"""How long a rank waited for others: the rest of its time it was busy with its own work."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class WaitClock:
    """Adds up the time spent inside `with`; never nested. On a GPU only waits of the host count."""

    def __init__(self) -> None:
        self._waited, self._entered, self._since = 0.0, 0.0, time.perf_counter()

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._waited += time.perf_counter() - self._entered

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A time that counts neither as waiting nor as work."""
        began, waited = time.perf_counter(), self._waited
        yield
        self._waited = waited
        self._since += time.perf_counter() - began

    def take_busy(self) -> float:
        """Seconds since the last call, or since the start, without waits."""
        now = time.perf_counter()
        busy = now - self._since - self._waited
        self._waited, self._since = 0.0, now
        return max(busy, 0.0)
