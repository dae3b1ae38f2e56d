"""`train`, `verify`, `simulate` and `calibrate` are packages and functions at once, whatever was imported before."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import counterpoint
import counterpoint.simulate.clock
import counterpoint.train.loop
from counterpoint.callable import CallablePackage
from counterpoint.errors import ConfigError
from counterpoint.plan.schedule import SCHEDULES, Schedule, gpipe
from counterpoint.plan.stages import Stages
from counterpoint.simulate import clock
from counterpoint.train.loop import Trainer

EXAMPLE = Path(__file__).parents[3] / "examples" / "synthetic_disjoint.yaml"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets what a test registers."""
    monkeypatch.setattr(SCHEDULES, "_kinds", dict(SCHEDULES.items()))


def _mirrored(stages: Stages, microbatches: int) -> Schedule:
    return gpipe(stages, microbatches)


@pytest.mark.parametrize("name", ["calibrate", "simulate", "train", "verify"])
def test_packages_are_functions_too(name: str) -> None:
    assert isinstance(getattr(counterpoint, name), CallablePackage)


def test_what_lies_in_a_callable_package_stays_in_reach() -> None:
    assert importlib.import_module("counterpoint.train").loop.Trainer is Trainer


def test_a_config_is_planned_proved_and_simulated() -> None:
    config = counterpoint.load_config(EXAMPLE)
    plan = counterpoint.build_plan(config)
    assert counterpoint.check_plan(plan).ranks == config.world.size
    assert counterpoint.simulate(plan) == clock.simulate(plan)


def test_verify_takes_what_train_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config, its file, or plain data, which is checked like a file."""
    worlds: list[int] = []

    class StartedError(Exception):
        pass

    def start(world: int, _device: str) -> None:
        worlds.append(world)
        raise StartedError

    monkeypatch.setattr("counterpoint.verify.command.Pool", start)
    config = counterpoint.load_config(EXAMPLE)
    for source in (config, EXAMPLE, str(EXAMPLE), config.resolved()):
        with pytest.raises(StartedError):
            counterpoint.verify(source)
    assert worlds == [config.world.size] * 4
    with pytest.raises(ConfigError, match=r"world\.size: got 0, expected at least 1"):
        counterpoint.verify(config.resolved() | {"world": {"size": 0}})


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, counterpoint; sys.exit(sum(name.startswith('counterpoint.') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.usefixtures("registry")
def test_a_registered_schedule_is_a_kind() -> None:
    with pytest.raises(ConfigError, match=r'schedule.kind: got "mirrored", expected "gpipe", "1f1b"'):
        counterpoint.load_config(EXAMPLE, ["schedule.kind=mirrored"])
    counterpoint.register_schedule("mirrored", _mirrored)
    plan = counterpoint.build_plan(counterpoint.load_config(EXAMPLE, ["schedule.kind=mirrored"]))
    assert counterpoint.check_plan(plan).ranks == plan.placement.world_size


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["gpipe", "forward", "zero_bubble", "1F1B", ""])
def test_no_schedule_is_replaced_or_misnamed(name: str) -> None:
    with pytest.raises(ConfigError, match="choose another"):
        counterpoint.register_schedule(name, _mirrored)
    assert SCHEDULES["gpipe"].build is gpipe
