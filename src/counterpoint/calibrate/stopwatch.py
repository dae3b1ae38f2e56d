"""How long a call takes, as the median over batches of calls, on all ranks at once."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple, final

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.errors import CounterpointError

Call = Callable[[], object]
"""What is measured; it never waits for the device."""

_BATCHES, _FEW_BATCHES = 5, 3
"""The fewer are for calls that take longer than the window."""

_MOST_CALLS = 100
"""Most calls of a batch: a GPU's queue holds about a thousand kernels, and a call starts up to ten."""

_CYCLES_PER_SECOND = 2e9
_HELD_SECONDS = 0.02
"""Longest time for which a GPU is kept busy while the host fills its queue."""

_LONG_SECONDS, _WARM_SECONDS = 3e-4, 0.12
"""A GPU repeats calls that take longer than the first for the second before they are measured: it lowers its clock by
the power that it draws, as it does inside of a step."""


class NotMeasuredError(CounterpointError):
    """Something cannot run here, on one of the ranks at least; the message says why."""


class Timing(NamedTuple):
    """Seconds of a call, and the distance of the quartiles of its batches over their median."""

    seconds: float
    spread: float


@final
class Stopwatch:
    """Measures calls on all ranks of `group` at once; without one, on this rank alone."""

    def __init__(self, device: torch.device, window_seconds: float, group: dist.ProcessGroup | None) -> None:
        self.device, self.group = device, group
        self._window = window_seconds

    @property
    def alone(self) -> "Stopwatch":
        """The same for this rank alone."""
        return Stopwatch(self.device, self._window, None)

    def time(self, make: Callable[[], Call]) -> Timing:
        """The mean over ranks of what `make` returns; raises NotMeasuredError on all of them if one rank cannot."""
        found, reason = Timing(0.0, 0.0), ""
        self.meet()
        try:
            found = self._time(make(), lambda seconds: seconds)
        except Exception as error:
            # A kernel, a library or memory that is not there, in whatever way its author says so.
            reason = _sentence(error)
        seconds, spread, failures = self._agreed([found.seconds, found.spread, float(bool(reason))], dist.ReduceOp.SUM)
        if failures:
            raise NotMeasuredError(reason or "another rank cannot")
        return Timing(seconds / self._size, spread / self._size)

    def time_together(self, call: Call) -> Timing:
        """The slowest rank's time of a call in which all ranks take part."""
        self.meet()
        found = self._time(call, lambda seconds: self._agreed([seconds], dist.ReduceOp.MAX)[0])
        seconds, spread = self._agreed([*found], dist.ReduceOp.MAX)
        return Timing(seconds, spread)

    def meet(self) -> None:
        """Wait for all ranks."""
        self.total(0.0)
        self._settle()

    def total(self, number: float) -> float:
        """The sum of all ranks' numbers."""
        return self._agreed([number], dist.ReduceOp.SUM)[0]

    def mean(self, number: float) -> float:
        """The mean of all ranks' numbers."""
        return self.total(number) / self._size

    @property
    def _size(self) -> int:
        return 1 if self.group is None else self.group.size()

    def _agreed(self, numbers: list[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.group is None:
            return numbers
        tensor = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, how, group=self.group)
        agreed: list[float] = tensor.tolist()
        return agreed

    def _time(self, call: Call, agree: Callable[[float], float]) -> Timing:
        """Batches of as many calls as fit into the window; `agree` makes their number the same on all ranks."""
        call()
        self._settle()
        begin = time.perf_counter()
        call()
        started = time.perf_counter() - begin
        self._settle()
        once = agree(max(time.perf_counter() - begin, 1e-7))
        if self.device.type == "cuda" and once > _LONG_SECONDS:
            for _call in range(int(_WARM_SECONDS / once)):
                call()
        calls = max(1, min(_MOST_CALLS, int(self._window / _BATCHES / once)))
        batch = self._batch_on_gpu if self.device.type == "cuda" else self._batch
        batches = _FEW_BATCHES if once > self._window else _BATCHES
        samples = [batch(call, calls, started) for _batch in range(batches)]
        low, middle, high = statistics.quantiles(samples, n=4)
        return Timing(middle, (high - low) / middle)

    def _batch(self, call: Call, calls: int, _started: float) -> float:
        begin = time.perf_counter()
        for _call in range(calls):
            call()
        return (time.perf_counter() - begin) / calls

    def _batch_on_gpu(self, call: Call, calls: int, started: float) -> float:
        """Seconds on the device, which is held until the host has queued the calls, as in a step that runs ahead."""
        first, last = (torch.cuda.Event(enable_timing=True) for _end in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(int(min(2 * (calls + 1) * started, _HELD_SECONDS) * _CYCLES_PER_SECOND))  # type: ignore[no-untyped-call]
        # Ranks that exchange something begin the second call together.
        call()
        first.record()
        for _call in range(calls):
            call()
        last.record()
        last.synchronize()
        elapsed: float = first.elapsed_time(last)
        return elapsed / 1000 / calls

    def _settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal numbers: a GPU is faster on zeros."""
    return torch.randn(shape, device=device, dtype=torch.float32).to(dtype)


def in_turn(calls: list[Call]) -> Call:
    """One call after another, so that caches do not hold what each reads."""
    number = -1

    def call() -> object:
        nonlocal number
        number = (number + 1) % len(calls)
        return calls[number]()

    return call


def _sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:160] if lines else type(error).__name__
