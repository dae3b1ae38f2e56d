"""Prefetching: the inputs of the next steps are planned and loaded while the current one computes."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from counterpoint.data.feed.reader import StepInputs

STEPS_AHEAD = 2


class Prefetcher:
    """Returns `read(step)` for consecutive steps; each read starts up to two steps ahead on one of `workers`
    threads."""

    def __init__(self, read: Callable[[int], StepInputs], first: int, stop: int, workers: int) -> None:
        self._read, self._next, self._stop = read, first, stop
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="feed")
        self._ahead: deque[Future[StepInputs]] = deque()

    def next(self) -> StepInputs:
        """The inputs of the next step; raises what reading them raised."""
        self._fill()
        inputs = self._ahead.popleft().result()
        self._fill()
        return inputs

    def close(self) -> None:
        """Stop reading ahead."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _fill(self) -> None:
        while self._next < self._stop and len(self._ahead) < STEPS_AHEAD:
            self._ahead.append(self._executor.submit(self._read, self._next))
            self._next += 1
