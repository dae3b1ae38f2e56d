"""The example of data of one's own: each of its sources, and their blend, equals one process on four ranks."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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
