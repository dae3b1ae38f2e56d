"""The example of data of one's own: each of its sources, and their blend, equals one process on four ranks."""

import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from counterpoint.api import open_run
from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.sources.registered.registered import REGISTERED_SOURCES
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

FILE = Path(__file__).parents[2] / "examples" / "own_data.py"
_LOADED: dict[str, ModuleType] = {}


def example() -> Any:
    """The example, whose registrations happen once in a process."""
    if not _LOADED:
        spec = spec_from_file_location("own_data", FILE)
        assert spec is not None
        assert spec.loader is not None
        _LOADED["own_data"] = module_from_spec(spec)
        spec.loader.exec_module(_LOADED["own_data"])
    return _LOADED["own_data"]


def example_task(member: Member, config: Config) -> CaseResult | None:
    """A pool task that registers what the example registers."""
    example()
    return verify_task(member, config)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The example's config, in a folder of its own."""
    found: dict[str, Any] = example().config(tmp_path_factory.mktemp("own_data"))
    return found


@pytest.mark.parametrize("source", ["blend", "colours", "sums", "squares"])
def test_it_equals_one_process(pool: Pool, settings: dict[str, Any], source: str) -> None:
    entries = [one for one in settings["data"]["train"] if source in ("blend", one["registered"])]
    config = load_config(settings | {"data": settings["data"] | {"train": entries}})
    result = pool.run(example_task, as_verified(config, "float64"))
    assert result.holds, str(result.first)
    assert source == "blend" or source in REGISTERED_SOURCES


@pytest.mark.more
def test_a_run_goes_on_in_another_world_and_not_with_other_data(tmp_path: Path) -> None:
    def train(run: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        keys = (f"run.dir={run}", "run.deterministic=true", "checkpoint.resume=auto", "log.every_steps=1")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(FILE.parents[1] / "src")}
        return subprocess.run(
            [sys.executable, str(FILE), *keys, *overrides],
            cwd=tmp_path, env=environment, check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    assert train("whole", "training.steps=4").returncode == 0
    assert train("parted", "training.steps=2").returncode == 0
    other_world = ("training.steps=4", "world.size=3", "modules.language.layout={ranks: [2]}", "data.workers=2")
    assert train("parted", *other_world).returncode == 0
    whole, parted = (open_run(tmp_path / run).losses for run in ("whole", "parted"))
    assert list(whole) == list(parted) == [1, 2, 3, 4]
    assert parted == pytest.approx(whole, rel=1e-6)
    refused = train("whole", "training.steps=5", "data.train.2.options.count=65")
    assert refused.returncode != 0
    assert 'it was written with data.train.2.options "{\\"count\\": 64}"' in refused.stderr
