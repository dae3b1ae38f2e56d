"""Restarts by torch's elastic agent: the next start of the world meets nothing of the one before."""

import json
import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.distributed.killing import main
from tests.parity.layouts import named_config, override

STEPS, SAVED = 9, 3
DEATHS = ("1@5", "0@8")


def _agent(arguments: tuple[str, ...]) -> None:
    """The agent of torchrun, whose ranks fork from a server that has imported torch."""
    multiprocessing.set_forkserver_preload(["counterpoint.worker"])
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, run_id="restarts", max_restarts=len(DEATHS), rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", start_method="forkserver", logs_specs=DefaultLogsSpecs(), monitor_interval=0.1,
        local_addr="127.0.0.1",
    )  # fmt: skip
    elastic_launch(launch, main)(*arguments)


def _torchrun(arguments: tuple[str, ...]) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--max-restarts={len(DEATHS)}",
        "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "-m", "tests.distributed.killing", *arguments,
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("start", [_agent, pytest.param(_torchrun, marks=pytest.mark.more)])
def test_two_ranks_killed_one_after_the_other_and_the_run_ends_as_if_none_was(
    tmp_path: Path, start: Callable[[tuple[str, ...]], None]
) -> None:
    """Each start goes on from the newest checkpoint; the last one trains the same again, undisturbed."""
    keys = {
        "run.dir": str(tmp_path / "killed"),
        "training.steps": STEPS,
        "checkpoint.every_steps": SAVED,
        "checkpoint.asynchronous": False,
        "log.every_steps": 1,
        "log.tensorboard": False,
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(override(named_config("disjoint_1_to_1"), keys).resolved()))
    start((str(config), str(tmp_path / "undisturbed"), *DEATHS))
    killed, undisturbed = _records(tmp_path / "killed"), _records(tmp_path / "undisturbed")
    assert [record["step"] for record in undisturbed] == list(range(1, STEPS + 1))
    # Steps after a checkpoint are trained again, but for those that were not yet recorded when a rank was killed.
    assert [record["step"] for record in killed] == [1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9]
    last = {record["step"]: _values(record) for record in killed}
    assert last == {record["step"]: _values(record) for record in undisturbed}


def _records(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if "modules" in record]


def _values(record: dict[str, Any]) -> tuple[float, float]:
    return record["loss"], record["gradient_norm"]
