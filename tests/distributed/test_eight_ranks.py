"""The mission's recipe on eight ranks: its twin trains, stops and goes on, with the same losses in both placements.

The scripts of examples/cluster start it, as a user would; a task of Slurm is a process with Slurm's variables.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "examples" / "cluster"
TWIN = "recipes/tiny/nemotron6-moe-vlm-20l-disjoint.yaml"
EVERYONE = "ranks: [0, 1, 2, 3, 4, 5, 6, 7]"
COLOCATED = (
    f"modules.vision.layout={{{EVERYONE}}}", f"modules.language.layout={{{EVERYONE}, expert: {{ep: 8}}}}",
    "schedule.microbatches=1",
)  # fmt: skip
EXACT = ("training.precision={parameters: float64, compute: float64, reduce: float64}", "log.every_steps=1")

SRUN = """#!/usr/bin/env python3
import os, signal, subprocess, sys, time
command = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NODELIST": "localhost", "OMP_NUM_THREADS": "1"}
tasks = [
    subprocess.Popen(command, env=os.environ | slurm | {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)})
    for task in range(8)
]
signal.signal(signal.SIGTERM, lambda *_: [task.send_signal(signal.SIGTERM) for task in tasks])
while None in (ends := [task.poll() for task in tasks]):
    if any(ends):
        for task in tasks:
            task.kill()
    time.sleep(0.1)
sys.exit(next((end if end > 0 else 128 - end for end in ends if end), 0))
"""
"""Starts eight tasks as Slurm's srun does on one node: a signal goes to all, and the first bad exit ends the rest."""


@pytest.mark.more
def test_both_placements_and_a_resumed_run_have_the_same_losses(tmp_path: Path) -> None:
    disjoint, colocated = tmp_path / "disjoint", tmp_path / "colocated"
    _start([str(CLUSTER / "torchrun.sh"), TWIN, f"run.dir={disjoint}", *EXACT])
    assert max(_losses(disjoint)) == 10
    _start([str(CLUSTER / "torchrun.sh"), TWIN, f"run.dir={disjoint}", *EXACT, "training.steps=12"])
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(SRUN)
    srun.chmod(0o755)
    _start([str(CLUSTER / "train.sbatch"), TWIN, f"run.dir={colocated}", *EXACT, *COLOCATED, "training.steps=12"], srun)
    found, expected = _losses(disjoint), _losses(colocated)
    assert list(found) == list(expected) == list(range(1, 13))
    assert list(found.values()) == pytest.approx(list(expected.values()), rel=1e-9)


def _start(command: Sequence[str], *programs: Path) -> None:
    folders = [str(program.parent) for program in programs] + [str(Path(sys.executable).parent)]
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "PORT": "0"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]


def _losses(run: Path) -> dict[int, float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in records if "loss" in record}
