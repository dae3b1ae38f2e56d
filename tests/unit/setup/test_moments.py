"""What estimates of memory know of an optimizer's moments."""

from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.report.summary import summarize
from counterpoint.setup.run import build_plan

TINY = Path(__file__).parents[2] / "parity" / "tiny.yaml"
ROUNDED = "modules.language.optimizer.moments=bfloat16"
FLOAT32 = "training.precision={parameters: float32, compute: float32, reduce: float32}"
FLOAT64 = "training.precision={parameters: float64, compute: float64, reduce: float64}"


@pytest.mark.parametrize(
    ("keys", "moments"),
    [([FLOAT32], 2.0), ([FLOAT64], 2.0), ([FLOAT32, ROUNDED], 1.0), ([FLOAT64, ROUNDED], 0.5)],
)
def test_moments_of_fewer_bytes_count_as_a_share(keys: list[str], moments: float) -> None:
    plan = build_plan(load_config(TINY, keys))
    # A head that is tied has nothing of its own.
    assert {part.moments for part in plan.updates["language"]} - {0.0} == {moments}
    assert {part.moments for part in plan.updates["vision"]} - {0.0} == {2.0}


def test_bfloat16_halves_the_estimate() -> None:
    full, rounded = (summarize(build_plan(load_config(TINY, [FLOAT32, *keys]))) for keys in ([], [ROUNDED]))
    (rank,) = full.plan.layouts["language"].ranks
    assert rounded.memory[rank].optimizer_bytes * 2 == full.memory[rank].optimizer_bytes
    assert rounded.memory[rank].parameter_bytes == full.memory[rank].parameter_bytes
