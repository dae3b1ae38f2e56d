"""The hybrid's benchmark runs whole in its dry form, so that a call on GPUs only measures."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _measured(ranks: int, folder: Path, *options: str) -> dict[str, Any]:
    file = folder / "result.json"
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "benchmarks/hybrid.py"]
    subprocess.run(
        [*command, *options, f"--json={file}", f"--profile={folder / 'profiles'}"],
        cwd=ROOT, env={**os.environ, "BENCH_TINY": "1"}, check=True, timeout=400, capture_output=True,
    )  # fmt: skip
    text = file.read_text()
    assert str(folder) not in text
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.more
def test_a_setting_that_fails_is_a_row_and_the_others_are_measured(tmp_path: Path) -> None:
    found = _measured(2, tmp_path, "--settings=ours,ours,experts=7,peer")
    ours, failed, peer = found["rows"]
    assert "ConfigError" in failed["failed"]
    for row in (ours, peer):
        assert row["steps_timed"] == 2
        assert row["step_ms_median"] > 0
        assert row["parameters"] == ours["parameters"]
        assert row["gflop_per_token"] == pytest.approx(ours["gflop_per_token"], rel=1e-12)
    # Both read the same tokens, with initial values that differ.
    assert ours["loss_first_last"][0] == pytest.approx(peer["loss_first_last"][0], rel=0.02)


@pytest.mark.more
def test_one_rank_and_images(tmp_path: Path) -> None:
    (row,) = _measured(1, tmp_path, "--workload=vlm", "--settings=ours", "--one-by-one", "--passes=2")["rows"]
    assert row["steps_timed"] == 4
    assert row["vision_lanes_max_over_mean"] == 1.0
    assert len(row["work_by_step"]) == len(row["step_flops"]) == 4
    assert len({one["flops"] for one in row["work_by_step"]}) == 4
