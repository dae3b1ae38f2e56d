"""What random cases are drawn from."""

import pytest

from counterpoint.config.load import load_config
from counterpoint.plan.schedule import SCHEDULES, ScheduleKind, gpipe
from counterpoint.verify.draw import choose
from tests.parity.layouts import TINY, override


def test_a_schedule_from_elsewhere_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCHEDULES, "_kinds", dict(SCHEDULES.items()))
    SCHEDULES.register("mirrored", ScheduleKind(gpipe))
    cases = choose(override(load_config(TINY), {"schedule.kind": "mirrored"}), 4, 3, 4)
    assert {case.config["schedule"]["kind"] for case in cases} == {"mirrored"}
    ours = choose(load_config(TINY), 4, 3, 4)
    assert "mirrored" not in {case.config["schedule"]["kind"] for case in ours}
    drop = [{**case.config, "schedule": None} for case in cases]
    assert drop == [{**case.config, "schedule": None} for case in ours]
