"""Who is slower than those that do the same is named, and nobody else."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.execute.waits import WaitClock
from counterpoint.train.slow import slow_ranks

ROLES = {0: "vision", 1: "vision", 2: "vision", 3: "language", 4: "language"}


def test_the_slow_one_of_a_role_is_named_with_its_ratio() -> None:
    assert slow_ranks({0: 2.5, 1: 1.0, 2: 1.0, 3: 8.0, 4: 8.1}, ROLES, 10.0) == {0: 2.5}
    assert slow_ranks({0: 1.0, 1: 1.0, 2: 1.0, 3: 8.0, 4: 2.0}, ROLES, 10.0) == {3: 4.0}


def test_one_that_is_alone_is_compared_with_nobody() -> None:
    assert slow_ranks({0: 1.0, 1: 9.0}, {0: "vision", 1: "language"}, 10.0) == {}


def test_noise_of_little_work_names_nobody() -> None:
    assert slow_ranks({0: 0.03, 1: 0.01, 2: 0.01}, ROLES, 10.0) == {}


@given(st.lists(st.floats(0.0, 10.0), min_size=5, max_size=5), st.floats(0.1, 10.0))
def test_of_a_role_at_most_half_are_slow(seconds: list[float], passed: float) -> None:
    found = slow_ranks(dict(enumerate(seconds)), ROLES, passed)
    assert len(found) <= 2
    assert all(ratio > 1.5 for ratio in found.values())


def test_waiting_is_not_being_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = WaitClock()
    now[0] += 2.0
    with clock:
        now[0] += 5.0
    now[0] += 1.0
    assert clock.take_busy() == 3.0
    now[0] += 4.0
    assert clock.take_busy() == 4.0
