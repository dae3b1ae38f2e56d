"""Where a rank stands while its device works after its host."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from counterpoint.execute import whereabouts
from counterpoint.execute.whereabouts import Limit, Whereabouts
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
