"""Waiting for others is not being busy."""

import time

import pytest

from counterpoint.execute.waits import WaitClock


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


def test_a_pause_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = WaitClock()
    now[0] += 2.0
    with clock:
        now[0] += 5.0
    with clock.paused():
        now[0] += 7.0
        with clock:
            now[0] += 11.0
    now[0] += 1.0
    assert clock.take_busy() == 3.0
