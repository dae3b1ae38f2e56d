"""Eight ranks whose hosts talk in pairs: three levels, on which a run does all that one group of all of them does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from counterpoint.config.schema import Config
from counterpoint.plan.tree import FAN_OUT
from counterpoint.train.callbacks import Callback, StepContext
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.loaded import gathered
from tests.distributed.trained import train
from tests.parity.layouts import documents, named_config, override

STEPS, STOPPED_AFTER = 6, 3
LAST = 7
"""The rank that is furthest from the first one."""


class Trained(NamedTuple):
    """What a run's first rank heard, and the whole tensors that all ranks held in the end."""

    losses: list[float]
    evaluations: list[tuple[int, str, float]]
    tensors: dict[str, torch.Tensor]


class _StopOnLast(Callback):
    """One rank alone asks all to stop after a step."""

    def __init__(self, step: int | None) -> None:
        self._step = step

    def after_step(self, context: StepContext) -> None:
        """See Callback."""
        if context.rank == LAST and context.step == self._step:
            context.request_stop()


def _config(folder: Path) -> Config:
    return override(
        named_config("dp4_to_tp2_pp2"),
        {
            "run.dir": str(folder),
            "training.steps": STEPS,
            "checkpoint.every_steps": 2,
            "evaluation.every_steps": 2,
            "data.evaluation": documents(documents=16),
            "log.every_steps": 1,
            "log.tensorboard": False,
        },
    )


def test_a_run_on_a_tree_trains_evaluates_saves_stops_and_goes_on(pool: Pool, tmp_path: Path) -> None:
    whole = pool.run(_train_task, _config(tmp_path / "whole"), FAN_OUT, None)
    run = _config(tmp_path / "pairs")
    first = pool.run(_train_task, run, 2, STOPPED_AFTER)
    saved = sorted(folder.name for folder in (tmp_path / "pairs" / "checkpoints").iterdir())
    assert saved[-1] == f"step-{len(first.losses):08d}"
    assert len(first.losses) == STOPPED_AFTER + 1
    second = pool.run(_train_task, run, 2, None)
    assert [*first.losses, *second.losses] == whole.losses
    # All ranks leave the evaluation in which they hear that one of them wants to stop.
    assert [step for step, _split, _loss in whole.evaluations] == [2, 4, 6]
    assert [*first.evaluations, *second.evaluations] == [whole.evaluations[0], whole.evaluations[2]]
    assert second.tensors.keys() == whole.tensors.keys()
    assert [key for key, tensor in whole.tensors.items() if not torch.equal(second.tensors[key], tensor)] == []


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        pytest.param(
            "killed in an evaluation", 1,
            r"^error: rank 3 ended without a report, by SIGKILL.*step 2: ranks? .*3.* gone",
            marks=pytest.mark.more,
        ),
        pytest.param(
            "loop in a checkpoint's write", 4, r"rank 3 made no progress in step \d: checkpoint.*wait for it",
            marks=pytest.mark.more,
        ),
        pytest.param(
            "error in a checkpoint's write", 1, r"rank 2.*No space left on device", marks=pytest.mark.more
        ),
        pytest.param("killed", 1, r"^error: rank 2 ended without a report, by SIGKILL.*step 2", marks=pytest.mark.more),
    ],
)  # fmt: skip
def test_on_a_tree_the_rank_that_fails_is_named(tmp_path: Path, fault: str, code: int, words: str) -> None:
    """Rank 3 is in one pair with rank 2, which speaks for both with rank 0."""
    limits = {"timeout_seconds": 60, "startup_seconds": 600, "checkpoint_seconds": 60}
    data = override(_config(tmp_path / "run"), {f"watchdog.{key}": limit for key, limit in limits.items()}).resolved()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(data))
    command = [sys.executable, "-m", "tests.distributed.faults.script", "train", str(file)]
    environment = os.environ | {"FAULT": fault, "FAULT_STEP": "2", "FAN_OUT": "2"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert ended.returncode == code, ended.stderr
    assert re.search(words, last), last
    planted = re.search(r"rank (\d)", words)
    assert planted is not None
    assert json.loads((tmp_path / "run" / "error.json").read_text())["rank"] == int(planted[1])
    log = (tmp_path / "run" / "logs" / "rank_00000.log").read_text()
    assert re.search(r"\d+ communicators \(\d+ of this rank\) in", log)


def _train_task(member: Member, config: Config, fan_out: int, stop: int | None) -> Trained | None:
    member.fan_out = fan_out
    try:
        heard, engine, _corpus = train(member, config, (_StopOnLast(stop),))
        tensors = gathered(member, engine)
    finally:
        member.fan_out = FAN_OUT
    losses = [result.loss for result, _documents in heard.steps]
    return None if tensors is None else Trained(losses, heard.evaluations, tensors)
