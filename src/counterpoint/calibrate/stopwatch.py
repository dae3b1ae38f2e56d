"""How long a call takes, as the median over batches of calls, on all ranks at once."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from counterpoint.errors import CounterpointError

Call = Callable[[], object]
"""What is measured; it never waits for the device."""

Passes = tuple[Call, Call]
"""A forward and the backward of it."""

Made = TypeVar("Made")

_BATCHES, _FEW_BATCHES = 5, 3
"""The fewer are for calls, and for batches together, that take longer than the window."""

_SLICES_SECONDS = 0.02
"""Shortest batch on a CPU, whatever a call takes: ranks that share a core have it for a few milliseconds each, and only
over several of these does a call take what it costs with all ranks at work."""

_LONGER = 3
"""Batches last so many times longer if their calls wait for other ranks, or if only differences of them are figures."""

_GROWTH = 16
"""Most growth at once of the number of calls that ranks make together."""

_MOST_CALLS = 100
"""Most calls of a batch on a GPU: its queue holds about a thousand kernels, and a call starts up to ten."""

_HOST_CALLS = 25
"""Calls of which each is measured by a GPU's host. What a call launches fits into the queue, or the device keeps up
with it, as it does with kernels that are shorter than their launches."""

_COLD_BYTES, _COLD_BYTES_ON_CPU, _MOST_COPIES = 2**28, 2**24, 8
"""Inputs are copied until they have so many bytes, but not more often: caches hold less, on a CPU those of a core."""

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
        return self._mean(make, self._on_gpu if self._has_gpu else self._on_cpu)

    def host(self, make: Callable[[], Call]) -> float:
        """The host's seconds of what `make` returns, whatever a GPU still has to do of it; otherwise like `time`."""
        return self._means(lambda: (make(),), self._by_host if self._has_gpu else self._longer, 1)[0].seconds

    def host_of_passes(self, make: Callable[[], Passes]) -> tuple[float, ...]:
        """The same of a forward and a backward in turn: of each on a GPU, of both together on a CPU, which is too noisy
        for that."""
        found = self._means(make, self._by_host, 2) if self._has_gpu else self._means(make, self._longer, 1)
        return tuple(each.seconds for each in found)

    def time_together(self, call: Call) -> Timing:
        """The slowest rank's time of a call in which all ranks take part."""
        self.meet()
        found = self._on_gpu(call, self._slowest) if self._has_gpu else self._together(call)
        seconds, spread = self._agreed([*found], dist.ReduceOp.MAX)
        return Timing(seconds, spread)

    def meet(self) -> None:
        """Wait for all ranks."""
        self.total(0.0)
        self._settle()

    def total(self, number: float) -> float:
        """The sum of all ranks' numbers."""
        return self._agreed([number], dist.ReduceOp.SUM)[0]

    @property
    def _has_gpu(self) -> bool:
        return self.device.type == "cuda"

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

    def _mean(self, make: Callable[[], Call], measure: Callable[[Call], Timing]) -> Timing:
        return self._means(make, lambda call: [measure(call)], 1)[0]

    def _means(self, make: Callable[[], Made], measure: Callable[[Made], list[Timing]], count: int) -> list[Timing]:
        """The means over ranks of the `count` timings of what `make` returns."""
        found, reason = [Timing(0.0, 0.0)] * count, ""
        self.meet()
        try:
            found = measure(make())
        except Exception as error:
            # A kernel, a library or memory that is not there, in whatever way its author says so.
            reason = _sentence(error)
        numbers = [number / self._size for each in found for number in (each.seconds, each.spread)]
        *means, failures = self._agreed([*numbers, float(bool(reason))], dist.ReduceOp.SUM)
        if failures:
            raise NotMeasuredError(reason or "another rank cannot")
        return [Timing(*pair) for pair in zip(means[::2], means[1::2], strict=True)]

    def _slowest(self, seconds: float) -> float:
        return self._agreed([seconds], dist.ReduceOp.MAX)[0]

    def _on_cpu(self, call: Call, times: int = 1) -> Timing:
        """Batches that last so long, rather than of so many calls: all ranks are at work until about the same time."""
        call()
        least, batches = times * self._batch_seconds, self._batches(_lasting(call, 1))
        return _timing([_batch(call, least) for _number in range(batches)])

    def _together(self, call: Call) -> Timing:
        """Batches of as many calls on all ranks."""
        call()
        least, calls = _LONGER * self._batch_seconds, 1
        while (lasted := self._slowest(_lasting(call, calls))) < least:
            calls = max(calls + 1, int(calls * min(_GROWTH, least / max(lasted, 1e-7))))
        batches = self._batches(lasted / calls)
        return _timing([_lasting(call, calls) / calls for _number in range(batches)])

    @property
    def _batch_seconds(self) -> float:
        return max(self._window / _BATCHES, _SLICES_SECONDS)

    def _batches(self, once: float) -> int:
        """How many are made of a call that takes so long."""
        is_long = once > self._window or _BATCHES * self._batch_seconds > self._window
        return _FEW_BATCHES if is_long else _BATCHES

    def _by_host(self, calls: Sequence[Call]) -> list[Timing]:
        """What each of some calls takes, which follow one another."""
        _run(calls)
        samples = []
        for _turn in range(_HOST_CALLS):
            self._settle()
            samples.append([_lasting(call, 1) for call in calls])
        self._settle()
        return [_timing(of_call) for of_call in zip(*samples, strict=True)]

    def _longer(self, calls: Sequence[Call]) -> list[Timing]:
        """What all of them take on a CPU."""
        return [self._on_cpu(partial(_run, calls), times=_LONGER)]

    def _on_gpu(self, call: Call, agree: Callable[[float], float] = float) -> Timing:
        """Batches of as many calls as fit into the window; `agree` makes their number the same on all ranks."""
        call()
        self._settle()
        begin = time.perf_counter()
        call()
        started = time.perf_counter() - begin
        self._settle()
        once = agree(max(time.perf_counter() - begin, 1e-7))
        if once > _LONG_SECONDS:
            for _call in range(int(_WARM_SECONDS / once)):
                call()
        calls = max(1, min(_MOST_CALLS, int(self._window / _BATCHES / once)))
        batches = _FEW_BATCHES if once > self._window else _BATCHES
        return _timing([self._batch_on_gpu(call, calls, started) for _number in range(batches)])

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
        if self._has_gpu:
            torch.cuda.synchronize(self.device)


def _timing(samples: Sequence[float]) -> Timing:
    low, middle, high = statistics.quantiles(samples, n=4)
    return Timing(middle, (high - low) / middle)


def _run(calls: Sequence[Call]) -> None:
    for call in calls:
        call()


def _lasting(call: Call, calls: int) -> float:
    begin = time.perf_counter()
    for _call in range(calls):
        call()
    return time.perf_counter() - begin


def _batch(call: Call, least: float) -> float:
    """Seconds of a call among as many as take `least` seconds at least."""
    calls, lasted = 1, _lasting(call, 1)
    while lasted < least:
        # A call that was interrupted takes much longer than the others, and says little of how many are left.
        more = max(1, min(calls, int((least - lasted) / max(lasted, 1e-7) * calls)))
        lasted += _lasting(call, more)
        calls += more
    return lasted / calls


def random(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Normal numbers: a GPU is faster on zeros."""
    return torch.randn(shape, device=device, dtype=torch.float32).to(dtype)


def cold_copies(size_bytes: int, device: torch.device) -> int:
    """How many copies of inputs of that size take turns, so that no cache holds them."""
    cold = _COLD_BYTES if device.type == "cuda" else _COLD_BYTES_ON_CPU
    return max(1, min(_MOST_COPIES, cold // size_bytes))


def in_turn(calls: list[Call]) -> Call:
    """One call after another, so that caches do not hold what each reads; what it returns is kept until its next turn,
    as layers keep it for backward."""
    number = -1
    kept: list[object] = [None] * len(calls)

    def call() -> object:
        nonlocal number
        number = (number + 1) % len(calls)
        kept[number] = calls[number]()
        return kept[number]

    return call


def _sentence(error: Exception) -> str:
    if isinstance(error, NotMeasuredError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A file has no text with characters that cannot be printed.
    words = "".join(letter for letter in lines[0] if letter.isprintable()) if lines else ""
    return f"{type(error).__name__}: {words}"[:160] if words else type(error).__name__
