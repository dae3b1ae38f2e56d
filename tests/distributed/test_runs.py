"""Whole runs as a user starts them: resume, signals, killed ranks, a failing rank. Each start costs seconds."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from counterpoint.config.schema import Config
from tests.parity.layouts import named_config, override

STEPS = 20
STOP_AFTER = 7


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Vision dp2 and language tp2 in float64, a checkpoint every seven steps."""
    overrides = {
        "training.steps": STEPS,
        "checkpoint.every_steps": STOP_AFTER,
        "log.every_steps": 1,
        "log.tensorboard": False,
        "modules.language.optimizer.schedule.kind": "cosine",
    }
    return override(named_config("dp2_to_tp2"), overrides)


@pytest.fixture(scope="module")
def uninterrupted(config: Config, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """The losses of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    ended = _finish(_start(config, folder))
    assert ended.returncode == 0, ended.stderr
    return _losses(folder)


def test_stopped_by_sigterm_and_resumed_is_bit_identical(
    config: Config, uninterrupted: dict[int, float], tmp_path: Path
) -> None:
    process = _start(config, tmp_path)
    _wait_for_step(tmp_path, 5)
    process.send_signal(signal.SIGTERM)
    stopped = _finish(process)
    assert stopped.returncode == 143, stopped.stderr
    assert "stopped by SIGTERM" in stopped.stderr
    assert max(_losses(tmp_path)) < STEPS
    assert _finish(_start(config, tmp_path)).returncode == 0
    assert _losses(tmp_path) == uninterrupted


def test_killed_and_resumed_is_bit_identical(config: Config, uninterrupted: dict[int, float], tmp_path: Path) -> None:
    process = _start(config, tmp_path)
    _wait_for_checkpoint(tmp_path, STOP_AFTER)
    killed_at = time.monotonic()
    os.kill(_ranks_of(process)[1], signal.SIGKILL)
    ended = _finish(process)
    assert time.monotonic() - killed_at < 20
    assert ended.returncode == 1
    assert "rank 1 ended without a report, by SIGKILL" in ended.stderr.splitlines()[-1]
    assert _finish(_start(config, tmp_path)).returncode == 0
    assert _losses(tmp_path) == uninterrupted


def test_resumed_on_another_layout_goes_on_equally(
    config: Config, uninterrupted: dict[int, float], tmp_path: Path
) -> None:
    first = override(config, {"checkpoint.every_steps": 10})
    process = _start(first, tmp_path)
    _wait_for_checkpoint(tmp_path, 10)
    process.kill()
    killed_at = time.monotonic()
    _finish(process)
    assert time.monotonic() - killed_at < 30, "ranks without a launcher end by themselves"
    layouts = {
        "world.size": 3,
        "modules.vision.layout": {"ranks": [0, 1, 2]},
        "modules.language.layout": {"ranks": [0, 1, 2], "tp": 3},
    }
    assert _finish(_start(override(config, layouts), tmp_path)).returncode == 0
    losses = _losses(tmp_path)
    assert losses == pytest.approx(uninterrupted, rel=1e-9)


def test_a_failing_rank_ends_all_with_its_own_words_last(config: Config, tmp_path: Path) -> None:
    broken = override(config, {"modules.language.optimizer.lr": 1e300})
    ended = _finish(_start(broken, tmp_path))
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert re.match(r"error: rank \d, S: step 1: .*not finite, nothing was updated; resume", last), last
    assert json.loads((tmp_path / "error.json").read_text())["kind"] == "RunError"


def _start(config: Config, folder: Path, arguments: Sequence[str] = ()) -> subprocess.Popen[str]:
    data = config.resolved()
    data["run"]["dir"] = str(folder)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(data))
    command = [sys.executable, "-m", "counterpoint.cli", "train", str(file), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _losses(folder: Path) -> dict[int, float]:
    """The last recorded loss of every step."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in records if "modules" in record}


def _wait_for_step(folder: Path, step: int) -> None:
    _wait(lambda: (folder / "metrics.jsonl").exists() and max(_losses(folder), default=0) >= step)


def _wait_for_checkpoint(folder: Path, step: int) -> None:
    _wait((folder / "checkpoints" / f"step-{step:08d}").exists)


def _wait(happened: object) -> None:
    assert callable(happened)
    deadline = time.monotonic() + 90
    while not happened():
        assert time.monotonic() < deadline, "the run did not get there"
        time.sleep(0.02)


def _ranks_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of a launcher's ranks, in the order in which they started: children of its fork server."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    children = sorted(pid for pid, parent in parents.items() if parent == process.pid)
    return sorted(pid for pid, parent in parents.items() if parent in children)
