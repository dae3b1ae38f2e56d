"""A training on data as people have them: it equals one process, and goes on in the same order on other ranks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml

from counterpoint.config.schema import Config
from counterpoint.train.callbacks import Callback, StepContext
from counterpoint.verify.case import verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from counterpoint.verify.reference import Reference
from tests.distributed.spare import is_spare
from tests.distributed.trained import train
from tests.own_shapes import CLIPS, PICTURES, SPEECHES, own_config, prepare_own_shapes
from tests.parity.layouts import ranks
from tests.parity.often import often_unless
from tests.parity.speech import trio
from tests.parity.test_named_layouts import assert_equal

STEPS, ASK = 7, 2
"""A run that is asked to stop after the second step stops three steps later, inside of a window of two."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "dp2_to_tp2": trio(4, {"ranks": [0, 1]}, {"ranks": [2, 3], "tp": 2}),
    "colocated_tp2_dp2_to_dp4": trio(4, {"ranks": ranks(0, 4), "tp": 2}, {"ranks": ranks(0, 4)}),
    "cp2_to_pp2": trio(4, {"ranks": [0, 1], "cp": 2}, {"ranks": [2, 3], "pp": 2}, schedule__microbatches=4),
}
OTHERS: dict[str, dict[str, Any]] = {
    "dp1_to_dp2": trio(3, {"ranks": [0]}, {"ranks": [1, 2]}, data__workers=1, data__prefetch_steps=1),
    "dp3_to_cp3": trio(
        3, {"ranks": ranks(0, 3)}, {"ranks": ranks(0, 3), "cp": 3}, data__workers=3, data__prefetch_steps=4
    ),
}
"""Where the run goes on, and how it reads there."""


class Trained(NamedTuple):
    """The documents of each step, pack by pack as (source, index), its loss, and that of one process."""

    samples: list[list[tuple[int, int]]]
    losses: list[float]
    alone: list[float]


class _StopAfter(Callback):
    """Asks the run to stop after a step."""

    def __init__(self, step: int | None) -> None:
        self._step = step

    def after_step(self, context: StepContext) -> None:
        if context.step == self._step:
            context.request_stop()


def _train_task(member: Member, config: Config, stop: int | None, compare: bool) -> Trained | None:
    """Train until a step; all ranks must have met the same samples."""
    if is_spare(member, config):
        return None
    heard, engine, corpus = train(member, config, (_StopAfter(stop),))
    samples = [[(d.source, d.index) for d in documents] for _result, documents in heard.steps]
    losses = [result.loss for result, _documents in heard.steps]
    tree = member.groups(engine.plan).control
    assert tree is not None
    gathered = tree.gather((samples, losses))
    if gathered is None:
        return None
    assert gathered == [gathered[0]] * len(gathered)
    reference = Reference(config, corpus.sources, member.world.device, torch.float64) if compare else None
    alone = [] if reference is None else [reference.step(documents).loss for _result, documents in heard.steps]
    return Trained(samples, losses, alone)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    counts = {name: summary.manifest.counts for name, summary in prepare_own_shapes(folder).items()}
    assert (counts["chats"]["images"], counts["clips"]["videos"], counts["speech"]["clips"]) == (
        PICTURES, CLIPS, SPEECHES,
    )  # fmt: skip
    assert all(os.path.getsize(folder / name / "payload.bin") == 0 for name in counts)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(pool: Pool, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that nothing disturbed."""
    run = tmp_path_factory.mktemp("run")
    found: Trained = pool.run(_train_task, _config(folder, run, "dp2_to_tp2"), None, True)
    return found


def _config(folder: Path, run: Path, layout: str, **keys: Any) -> Config:
    return own_config(folder, (LAYOUTS | OTHERS)[layout], **{"run.dir": str(run), "training.steps": STEPS} | keys)


@pytest.mark.parametrize("layout", often_unless(LAYOUTS, {"cp2_to_pp2": "dp2_to_tp2"}))
def test_chats_films_and_speech_equal_one_process(pool: Pool, folder: Path, layout: str) -> None:
    assert_equal(pool.run(verify_task, own_config(folder, LAYOUTS[layout])))


def test_every_step_equals_one_process_and_has_all_kinds(uninterrupted: Trained) -> None:
    assert uninterrupted.losses == pytest.approx(uninterrupted.alone, rel=1e-9)
    assert all({source for source, _index in step} == {0, 1, 2} for step in uninterrupted.samples)


@pytest.fixture(scope="module")
def stopped(pool: Pool, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    """A run that was stopped, and its folder."""
    run = tmp_path_factory.mktemp("stopped")
    found: Trained = pool.run(_train_task, _config(folder, run, "dp2_to_tp2"), ASK, False)
    return found, run


@pytest.mark.parametrize("layout", often_unless(OTHERS, {"dp3_to_cp3": "dp1_to_dp2"}))
def test_a_run_goes_on_with_the_same_samples_elsewhere(
    pool: Pool, folder: Path, tmp_path: Path, uninterrupted: Trained, stopped: tuple[Trained, Path], layout: str
) -> None:
    before, run = stopped
    shutil.copytree(run, tmp_path / "run")
    after: Trained = pool.run(_train_task, _config(folder, tmp_path / "run", layout), None, False)
    assert 0 < len(before.samples) < STEPS
    assert len(before.samples) % 2, "the run stops inside of a window"
    assert before.samples + after.samples == uninterrupted.samples
    assert before.losses + after.losses == pytest.approx(uninterrupted.losses, rel=1e-9)


@pytest.mark.more
def test_a_run_of_the_command_line_goes_on_with_processes_that_read(
    folder: Path, tmp_path: Path, uninterrupted: Trained
) -> None:
    run = tmp_path / "run"
    for layout, steps, processes in (("dp2_to_tp2", ASK + 1, 1), ("dp1_to_dp2", STEPS, 2)):
        keys = {"training.steps": steps, "data.processes": processes, "data.workers": 2, "data.prefetch_steps": 2}
        config = _config(folder, run, layout, **keys, **{"log.every_steps": 1})
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.resolved()))
        command = [sys.executable, "-m", "counterpoint.cli", "train", str(tmp_path / "config.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "modules" in record]
    assert losses == pytest.approx(uninterrupted.losses, rel=1e-9)
