"""Where a rank stands while its device works after its host."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.check.blame import Walk
from counterpoint.execute import whereabouts
from counterpoint.execute.whereabouts import DeviceMarks, Limit, Whereabouts
from counterpoint.plan.action import parse_action

FIRST, SECOND = parse_action("vision.0F0"), parse_action("vision.0B0")


class Marks:
    """A device that stays at the first action that it was given."""

    def __init__(self) -> None:
        self.first: Any = None

    def mark(self, program: object, index: int, action: object) -> None:
        if self.first is None:
            self.first = SimpleNamespace(program=program, index=index, action=action)

    def reached(self) -> Any:
        return self.first


def test_a_hang_is_where_the_device_is_and_an_error_where_the_host_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whereabouts, "DeviceMarks", Marks)
    place = Whereabouts(Limit("watchdog.timeout_seconds", 1.0))
    place.watch(dict, torch.device("cuda"))
    place.enter("training", 3)
    place.observe(FIRST)
    place.observe(SECOND)
    assert str(place.position) == "step 3: vision.0F0"
    assert str(place.host) == "step 3: vision.0B0"
    assert (place.position.at, place.host.at) == (0, 1)
    place.enter("reading", 4)
    assert place.position.work == ("training", 3, None)
    assert str(place.host) == "step 4: reading"


def test_programs_of_the_last_phases_are_computed_when_somebody_asks() -> None:
    """Three are kept: a host that works ahead of its device is at most two further."""
    place = Whereabouts(Limit("watchdog.timeout_seconds", 1.0))
    computed: list[int] = []

    def walk_of(step: int) -> Walk:
        computed.append(step)
        return Walk({0: (FIRST,) * step}, {})

    for step in range(1, 5):
        place.enter("training", step, walk=partial(walk_of, step))
        place.enter("results", step)
    assert computed == []
    walks = place.walks
    assert computed == [2, 3, 4]
    assert {program: len(walk.programs[0]) for program, walk in walks.items()} == {
        ("training", step, None): step for step in computed
    }


class Events:
    """Events of a device that has come to the first `complete` records of them, by their numbers."""

    def __init__(self) -> None:
        self.records, self.complete, self.made = 0, 0, 0

    def __call__(self) -> Any:
        self.made += 1
        event = SimpleNamespace(number=None)

        def record() -> None:
            event.number, self.records = self.records, self.records + 1

        event.record, event.query = record, lambda: event.number < self.complete
        return event


@given(st.lists(st.integers(0, 3), max_size=12))
def test_a_device_is_at_the_last_action_that_it_has_come_to(steps: list[int]) -> None:
    """Each number is by how many marks the device goes on after one more is made; marks that it left are used again."""
    events = Events()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.cuda, "Event", events)
        marks = DeviceMarks()
        assert marks.reached() is None
        for index, step in enumerate(steps):
            marks.mark(("training", 0, None), index, FIRST)
            events.complete = min(events.complete + step, index + 1)
            mark = marks.reached()
            assert mark is not None
            assert mark.index == max(events.complete - 1, 0)
    if steps and min(steps) > 0:
        assert events.made <= 3
