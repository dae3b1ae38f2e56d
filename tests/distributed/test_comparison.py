"""The runner that compares ours with FSDP2 runs whole in its dry form, so that a call on GPUs only measures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.more
@pytest.mark.parametrize(
    "options",
    [
        ["--settings", "colocated:8,group=2,tp4:4,fsdp2:8", "--one-by-one"],
        ["--workload", "varied", "--settings", "fixed:8,varied:8,balance=sample,fsdp2-varied", "--fed"],
    ],
    ids=["main", "varied"],
)
def test_a_dry_run_measures_every_setting(options: list[str], tmp_path: Path) -> None:
    file, folder = tmp_path / "result.json", tmp_path / "profiles"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "benchmarks/vlm.py", *options]
    subprocess.run(
        [*command, "--rounds=1", f"--json={file}", f"--profile={folder}"],
        cwd=ROOT, env={**os.environ, "BENCH_TINY": "1"}, check=True, timeout=400, capture_output=True,
    )  # fmt: skip
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == len(list(folder.iterdir())) == 3
    assert all((row["step_ms_median"] > 0 and row["of_best_fsdp2"]) or row["name"].startswith("fixed") for row in rows)
    ours = [row for row in rows if not row["is_baseline"]]
    assert len(ours) == 2
    for row in ours:
        assert row["config"]["training"]["precision"]["compute"] == "bfloat16"
        assert all(rank["sent"] == rank["planned"] for rank in row["bridge_bytes_by_rank"])
        # As many images to each sample on the same ranks lie with their documents and send nothing; others do.
        assert all((rank["sent"] > 0) is row["is_varied"] for rank in row["bridge_bytes_by_rank"])
