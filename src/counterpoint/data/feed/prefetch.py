"""Prefetching: the inputs of the next steps are planned and loaded while the current one computes."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from counterpoint.data.feed.reader import StepInputs


class Prefetcher:
    """Returns the inputs of consecutive steps; `read` begins to read a step, up to `steps_ahead` steps ahead.

    `stop_reading` is called when no more steps are wanted.
    """

    def __init__(
        self,
        read: Callable[[int], Future[StepInputs]],
        first: int,
        stop: int,
        steps_ahead: int,
        stop_reading: Callable[[], None],
    ) -> None:
        self._read, self._next, self._stop = read, first, stop
        self._steps_ahead, self._stop_reading = steps_ahead, stop_reading
        self._ahead: deque[Future[StepInputs]] = deque()

    def next(self) -> StepInputs:
        """The inputs of the next step; raises what reading them raised."""
        self._fill()
        inputs = self._ahead.popleft().result()
        self._fill()
        return inputs

    def close(self) -> None:
        """Stop reading ahead."""
        self._stop_reading()

    def _fill(self) -> None:
        while self._next < self._stop and len(self._ahead) < self._steps_ahead:
            self._ahead.append(self._read(self._next))
            self._next += 1
