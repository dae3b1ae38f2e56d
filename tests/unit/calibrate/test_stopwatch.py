"""Calls are measured in batches, on a GPU by its own clock, and what cannot run is told instead."""

import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

from counterpoint.calibrate.stopwatch import Call, NotMeasuredError, Stopwatch, cold_copies, in_turn

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Clock:
    """A clock that only calls advance, the host's and a GPU's."""

    def __init__(self) -> None:
        self.host = self.device = 0.0
        self.held: list[int] = []

    def busy(self, host: float, device: float) -> None:
        """Queue work of so many seconds on the device, which takes the host others."""
        self.host += host
        self.device = max(self.device, self.host) + device

    def hold(self, cycles: int) -> None:
        self.held.append(cycles)
        self.device = max(self.device, self.host) + cycles / 2e9

    def wait(self, *_device: object) -> None:
        self.host = max(self.host, self.device)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    class Event:
        def __init__(self, **_options: object) -> None:
            self.at = 0.0

        def record(self) -> None:
            self.at = max(clock.device, clock.host)

        def synchronize(self) -> None:
            clock.wait()

        def elapsed_time(self, later: "Event") -> float:
            return (later.at - self.at) * 1000

    monkeypatch.setattr(time, "perf_counter", lambda: clock.host)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", clock.hold)
    monkeypatch.setattr(torch.cuda, "synchronize", clock.wait)
    return clock


def test_the_median_of_batches_is_a_call(clock: Clock) -> None:
    calls: list[float] = []

    def call() -> None:
        calls.append(1e-4 * (1 + len(calls) % 3))
        clock.busy(calls[-1], 0)

    timing = Stopwatch(CPU, 0.05, None).time(lambda: call)
    assert timing.seconds == pytest.approx(2e-4, rel=0.1)
    assert 0 <= timing.spread < 0.1
    assert sum(calls) == pytest.approx(0.05, rel=0.5)


@pytest.mark.parametrize("window", [0.001, 0.1])
@pytest.mark.parametrize("seconds", [1e-6, 3e-4, 0.03])
def test_a_call_takes_what_it_costs_on_a_core_that_ranks_share(clock: Clock, window: float, seconds: float) -> None:
    """For 3 ms of its own a rank waits for as many of another one, whatever its calls take."""
    worked = 0.0

    def call() -> None:
        nonlocal worked
        waits = int((worked + seconds) / 3e-3) - int(worked / 3e-3)
        worked += seconds
        clock.busy(seconds + waits * 3e-3, 0)

    timing = Stopwatch(CPU, window, None).time(lambda: call)
    assert timing.seconds == pytest.approx(2 * seconds, rel=0.15)
    assert worked * 2 >= 3 * 0.02


def test_calls_that_ranks_make_together_are_measured_for_longer(clock: Clock) -> None:
    begins: list[float] = []

    def call() -> None:
        begins.append(clock.host)
        clock.busy(1e-4 * (1 + len(begins) % 2), 0)

    assert Stopwatch(CPU, 0.1, None).time_together(call).seconds == pytest.approx(1.5e-4, rel=0.01)
    assert clock.host >= 5 * 3 * 0.02


def test_a_hosts_seconds_do_not_contain_the_devices(clock: Clock) -> None:
    """The host goes on while a GPU works, and waits for it before the next call."""
    assert Stopwatch(GPU, 0.02, None).host(lambda: lambda: clock.busy(5e-5, 2e-3)) == pytest.approx(5e-5)
    assert Stopwatch(CPU, 0.02, None).host(lambda: lambda: clock.busy(5e-5, 0)) == pytest.approx(5e-5)


def test_a_host_takes_for_each_pass_what_that_takes(clock: Clock) -> None:
    """A backward that begins while the device still works takes the host no longer for it."""
    passes = (lambda: clock.busy(5e-5, 2e-3), lambda: clock.busy(3e-5, 1e-3))
    assert Stopwatch(GPU, 0.02, None).host_of_passes(lambda: passes) == pytest.approx((5e-5, 3e-5))
    assert Stopwatch(CPU, 0.02, None).host_of_passes(lambda: passes) == pytest.approx((8e-5,))


def test_a_gpus_seconds_do_not_contain_the_hosts(clock: Clock) -> None:
    timing = Stopwatch(GPU, 0.02, None).time(lambda: lambda: clock.busy(5e-5, 2e-6))
    assert timing.seconds == pytest.approx(2e-6)
    assert min(clock.held) > 0


def test_a_gpu_is_warm_before_long_calls_are_measured(clock: Clock) -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        # Its clock falls once it has worked for a tenth of a second.
        clock.busy(1e-5, 1e-3 if clock.device < 0.1 else 2e-3)

    assert Stopwatch(GPU, 0.02, None).time(lambda: call).seconds == pytest.approx(2e-3)
    assert count > 100


def test_a_call_longer_than_the_window_is_repeated_little(clock: Clock) -> None:
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        clock.busy(1.0, 0)

    assert Stopwatch(CPU, 0.05, None).time(lambda: call).seconds == pytest.approx(1.0)
    assert count <= 5


def _raising(error: Exception) -> Callable[[], Call]:
    def make() -> Call:
        raise error

    return make


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("no kernel\n  found here"), "RuntimeError: no kernel"),
        (NotImplementedError(), "NotImplementedError"),
        (NotMeasuredError("one rank on each node"), "one rank on each node"),
        (ImportError("x" * 500), f"ImportError: {'x' * 147}"),
    ],
)
def test_what_cannot_run_is_told(error: Exception, reason: str) -> None:
    with pytest.raises(NotMeasuredError) as told:
        Stopwatch(CPU, 0.01, None).time(_raising(error))
    assert str(told.value) == reason


def test_another_ranks_failure_is_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    class Group:
        def size(self) -> int:
            return 2

    def all_reduce(tensor: torch.Tensor, *_how: Any, **_group: Any) -> None:
        # The other rank has measured nothing.
        if tensor.numel() == 3:
            tensor[2] += 1

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    with pytest.raises(NotMeasuredError, match="another rank cannot"):
        Stopwatch(CPU, 0.001, Group()).time(lambda: lambda: None)  # type: ignore[arg-type]


def test_inputs_take_turns() -> None:
    said: list[int] = []
    call = in_turn([lambda: said.append(1), lambda: said.append(2)])
    for _turn in range(3):
        call()
    assert said == [1, 2, 1]


def test_what_calls_return_is_kept_until_their_next_turn() -> None:
    class Made: ...

    call = in_turn([Made, Made])
    first, second = (weakref.ref(call()) for _turn in range(2))
    assert first() is not None
    call()
    assert first() is None
    assert second() is not None


def test_inputs_take_turns_until_no_cache_holds_them() -> None:
    assert cold_copies(2**22, CPU) == 4
    assert cold_copies(2**22, GPU) == cold_copies(1, CPU) == 8
    assert cold_copies(2**30, GPU) == 1
