"""Threads that read: a call that hangs in storage can be left behind, and does not keep the process from ending."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, final

T = TypeVar("T")

LONGEST_CLOSING_SECONDS = 5.0
"""Longer than an item takes that is not stalled."""


@final
class Call(Generic[T]):
    """A call that one of the threads makes; `future` has its result."""

    def __init__(self, function: Callable[..., T], arguments: tuple[Any, ...], wait_seconds: float = 0.0) -> None:
        self.future: Future[T] = Future()
        self.is_abandoned = False
        self._function, self._arguments, self._wait_seconds = function, arguments, wait_seconds
        self._begun, self._begun_at = threading.Event(), 0.0

    def again(self, wait_seconds: float) -> "Call[T]":
        """The same call, not begun; it waits before it does."""
        return Call(self._function, self._arguments, wait_seconds)

    def run(self) -> None:
        """Make the call, unless it was cancelled before."""
        if self._wait_seconds:
            time.sleep(self._wait_seconds)
        self._begun_at = time.monotonic()
        is_wanted = self.future.set_running_or_notify_cancel()
        self._begun.set()
        if not is_wanted:
            return
        try:
            result = self._function(*self._arguments)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def result(self, seconds: float | None) -> T:
        """Its result; raises TimeoutError once it has been under way for so many seconds (None: never)."""
        if seconds is None:
            return self.future.result()
        self._begun.wait()
        return self.future.result(max(0.0, self._begun_at + seconds - time.monotonic()))

    def cancel(self) -> None:
        """Never make the call; whoever waits for it gets a CancelledError."""
        self.future.cancel()
        self._begun.set()


@final
class Workers:
    """`count` daemon threads that make calls in the order in which they are submitted."""

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._name = name
        self._threads: list[threading.Thread] = []
        for _ in range(count):
            self._start(None)

    def submit(self, function: Callable[..., T], *arguments: Any) -> Call[T]:
        """Make a call on the next thread that is free."""
        call = Call(function, arguments)
        self._calls.put(call)
        return call

    def again(self, call: Call[T], wait_seconds: float) -> Call[T]:
        """Make a call that hangs once more, on a fresh thread, which takes the place of the one that hangs."""
        call.is_abandoned, fresh = True, call.again(wait_seconds)
        self._start(fresh)
        return fresh

    def close(self) -> None:
        """Cancel what has not begun, and wait a while for what has: a thread that computes while the process ends may
        crash it."""
        while not self._calls.empty():
            call = self._calls.get()
            if call is not None:
                call.cancel()
        for _thread in self._threads:
            self._calls.put(None)
        end = time.monotonic() + LONGEST_CLOSING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _start(self, first: Call[Any] | None) -> None:
        self._threads.append(threading.Thread(target=self._work, args=(first,), name=self._name, daemon=True))
        self._threads[-1].start()

    def _work(self, call: Call[Any] | None) -> None:
        while True:
            call = call or self._calls.get()
            if call is None:
                return
            call.run()
            if call.is_abandoned:
                return
            call = None  # Its result may be large, and the next call may be long in coming.
