"""Devices behind their hosts: a compute ends no earlier than its last kernel was launched.

A host launches its rank's kernels one after the other and runs ahead of the device, by as many as the device's queue
holds. What takes a device long therefore does not help a host with what comes later: behind a long backward of one
module, the short passes of another take as long as their launches.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import final

from counterpoint.plan.action import Compute

QUEUE = 1024
"""Kernels that a GPU's queue holds: the launch of one more waits until the device has begun the first of them (seen on
H200, CUDA 13)."""


@final
@dataclass(frozen=True, slots=True)
class Launches:
    """What a host does for a compute, and for transfers since the one before: its seconds, and kernels of all kinds."""

    seconds: float
    kernels: int


@final
class Hosts:
    """The hosts of a step's ranks; `end` is asked in the order of each rank's program."""

    def __init__(
        self, launches: Callable[[int, Compute], Launches], queues: Mapping[int, "_Queue"] | None = None
    ) -> None:  # fmt: skip
        self._launches = launches
        self._queues = dict(queues or {})

    def end(self, rank: int, action: Compute, start: float, seconds: float) -> float:
        """When a device that is free for a compute from `start` on, and takes so many seconds for it, ends it."""
        queue = self._queues.setdefault(rank, _Queue())
        return queue.end(self._launches(rank, action), start, seconds)

    def next_step(self, period: float, rest: Callable[[int], float]) -> "Hosts":
        """The hosts as the next step begins, so long after this one; each has taken a `rest` of seconds for this one
        after its last compute."""
        return Hosts(self._launches, {rank: queue.after(period, rest(rank)) for rank, queue in self._queues.items()})


@dataclass(slots=True)
class _Queue:
    """What one host has launched: how many kernels, and when it was `free` again.

    `done` are moments of the device, as (kernels that it has run by then, time). Between two of them it runs evenly.
    """

    free: float = 0.0
    launched: int = 0
    done: deque[tuple[int, float]] = field(default_factory=lambda: deque([(0, -inf)]))

    def end(self, launches: Launches, start: float, seconds: float) -> float:
        """When the device ends what takes it so long from `start` on."""
        first, last = self.launched, self.launched + launches.kernels
        each = launches.seconds / max(1, launches.kernels)
        ready, now = self.free + launches.seconds, max(start, self.free)
        self.done.append((first, now))
        # A full queue slows the host to the device's pace, which changes only at these moments; after each of them it
        # still launches one kernel after the other.
        for kernels, time in self.done:
            later = last - QUEUE - kernels
            if 0 < later <= launches.kernels:
                ready = max(ready, time + later * each)
        end = max(now + seconds, ready)
        self.done.append((last, end))
        # Where there are more kernels than a queue holds, the last ones wait until the device has run the first.
        self.launched, self.free = last, max(ready, self._when(last - QUEUE))
        while self.done[1][0] < last - QUEUE:
            self.done.popleft()
        return end

    def after(self, period: float, rest: float) -> "_Queue":
        """The same after a rest of the host's work, seen from a moment so much later, at which counting begins anew."""
        done = deque((kernels - self.launched, time - period) for kernels, time in self.done)
        # A step is launched once the one before the last is known to have ended.
        return _Queue(max(self.free + rest, 0.0) - period, 0, done)

    def _when(self, kernels: int) -> float:
        """When the device had done so many."""
        before = self.done[0]
        if kernels < before[0]:
            return -inf
        for after in self.done:
            if kernels <= after[0]:
                span = after[0] - before[0]
                share = (kernels - before[0]) / span if span else 0.0
                return before[1] + share * (after[1] - before[1])
            before = after
        return before[1]
