"""The examples of encoders that users bring run as they stand, and equal one process."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool

EXAMPLES = Path(__file__).parents[2] / "examples"
_CONFIGS: dict[str, Any] = {}


def example(name: str) -> Any:
    """The config of an example, whose registrations happen once in a process."""
    if name not in _CONFIGS:
        spec = spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        _CONFIGS[name] = module.CONFIG
    return _CONFIGS[name]


def example_task(member: Member, name: str, config: Config) -> CaseResult | None:
    """A pool task that registers what an example registers."""
    example(name)
    return verify_task(member, config)


@pytest.mark.parametrize(
    "overrides", [[], ["modules.vision.layout={ranks: [0, 1], dp_shard: 2}"]], ids=["as it is", "dp2"]
)
@pytest.mark.parametrize("name", ["custom_encoder", "transformers_encoder"])
def test_an_example_equals_one_process(pool: Pool, name: str, overrides: list[str]) -> None:
    if name == "transformers_encoder":
        pytest.importorskip("transformers")
    result = pool.run(example_task, name, as_verified(load_config(example(name), overrides), "float64"))
    assert result.holds, str(result.first)


@pytest.mark.more
def test_a_script_that_registers_trains_and_resumes(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "custom_encoder.py"), f"run.dir={tmp_path}/run", "checkpoint.resume=auto"]
    for steps in (1, 2):
        ended = subprocess.run(
            [*command, f"training.steps={steps}"], check=False, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr
        assert f"step {steps}/{steps}" in ended.stdout + ended.stderr
