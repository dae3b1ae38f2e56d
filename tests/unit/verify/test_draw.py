"""What random cases are drawn from."""

import random
from typing import Literal

import pytest

from counterpoint.config.load import load_config
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.optimizers.kind import OptimizerKind, OptimizerSection
from counterpoint.optimizers.rates import LEARNING_RATES, LearningRateSection, RateKind
from counterpoint.plan.schedule import SCHEDULES, ScheduleKind, gpipe
from counterpoint.setup.run import build_plan
from counterpoint.verify.draw import choose
from counterpoint.verify.draw_optimizers import draw_optimizers
from tests.parity.layouts import TINY, override


class SteepSection(LearningRateSection):
    kind: Literal["steep"]
    power: int


class PlainSection(OptimizerSection):
    kind: Literal["plain"]
    sign: int = 0


STEEP = RateKind(section=SteepSection, left=lambda _section, _step, _steps: 1.0, drawn=lambda _generator: {"power": 3})
PLAIN = OptimizerKind(
    section=PlainSection, moments=lambda _section, _name, _shape: (), update="nowhere:update", plain="nowhere:plain",
    drawn=lambda generator: {"sign": generator.choice([-1, 1])},
)  # fmt: skip


def test_what_plugins_bring_is_drawn_as_ours_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kinds of learning rates anywhere, the options of an optimizer where the config has it."""
    for registry, kinds in ((LEARNING_RATES, {"steep": STEEP}), (OPTIMIZERS, {"plain": PLAIN})):
        monkeypatch.setattr(registry, "_kinds", dict(registry.items()) | kinds)
    base = override(load_config(TINY), {"modules.language.optimizer": {"kind": "plain", "lr": 1e-3}})
    drawn = [draw_optimizers(base, random.Random(seed)) for seed in range(40)]
    plain = [optimizers["language"] for optimizers in drawn]
    assert {one["sign"] for one in plain} == {-1, 1}
    assert {group["lr"] for one in plain for group in one["groups"]} == {1e-4, 3e-3}
    schedules = [one["schedule"] for optimizers in drawn for one in optimizers.values()]
    assert {schedule["power"] for schedule in schedules if schedule["kind"] == "steep"} == {3}


def test_patterns_of_a_drawn_muon_fit() -> None:
    """Of a model without attention as well, for which some of the patterns that are drawn are not."""
    base = override(load_config(TINY), {"modules.language.model.pattern": "--"})
    drawn = [draw_optimizers(base, random.Random(seed)) for seed in range(40)]
    patterns = [one["language"]["adamw_for"] for one in drawn if "adamw_for" in one["language"]]
    assert ["embed.*"] in patterns
    for optimizers in drawn:
        build_plan(override(base, {f"modules.{name}.optimizer": one for name, one in optimizers.items()}))


def test_a_schedule_from_elsewhere_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCHEDULES, "_kinds", dict(SCHEDULES.items()))
    SCHEDULES.register("mirrored", ScheduleKind(gpipe))
    cases = choose(override(load_config(TINY), {"schedule.kind": "mirrored"}), 4, 3, 4)
    assert {case.config["schedule"]["kind"] for case in cases} == {"mirrored"}
    ours = choose(load_config(TINY), 4, 3, 4)
    assert "mirrored" not in {case.config["schedule"]["kind"] for case in ours}
    drop = [{**case.config, "schedule": None} for case in cases]
    assert drop == [{**case.config, "schedule": None} for case in ours]
