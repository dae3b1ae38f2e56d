"""Whole runs as a user starts them: resume, signals, killed ranks, a failing rank. Each start costs seconds.

What happens to a run happens in it, in a step of its own; deadlines here only end a test that would never end.
"""

import io
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
from PIL import Image

from counterpoint.config.schema import Config
from counterpoint.sources.prepared.index import PAYLOAD_NAME, TOKENIZER_NAME
from counterpoint.sources.prepared.index_writer import IndexWriter
from counterpoint.sources.prepared.part import Encoded, Record
from tests.parity.layouts import named_config, override

STEPS = 14
STOP_AFTER = 5
ENDLESS_SECONDS = 1800
"""What no run takes, on whatever machine."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Vision dp2 beside a language model on one rank, in float64, a checkpoint every five steps."""
    overrides = {
        "world.size": 3,
        "modules.language.layout": {"ranks": [2]},
        "training.steps": STEPS,
        "checkpoint.every_steps": STOP_AFTER,
        "log.every_steps": 1,
        "log.tensorboard": False,
        "modules.language.optimizer.schedule.kind": "cosine",
        # Nothing here ends by the watchdog.
        "watchdog.timeout_seconds": 2 * ENDLESS_SECONDS,
    }
    return override(named_config("dp2_to_tp2"), overrides)


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    ended = _finish(_start(config, folder))
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def uninterrupted(finished: Path) -> dict[int, float]:
    """The losses of a run that nothing disturbed."""
    return _losses(finished)


@pytest.mark.more
def test_stopped_by_sigterm_and_resumed_is_bit_identical(
    config: Config, uninterrupted: dict[int, float], tmp_path: Path
) -> None:
    stopped = _finish(_start(config, tmp_path, fault="stopped by a signal to all", step=5))
    assert stopped.returncode == 143, stopped.stderr
    assert "stopped by SIGTERM" in stopped.stderr
    assert max(_losses(tmp_path)) < STEPS
    assert _finish(_start(config, tmp_path)).returncode == 0
    assert _losses(tmp_path) == uninterrupted


def test_killed_and_resumed_is_bit_identical(config: Config, uninterrupted: dict[int, float], tmp_path: Path) -> None:
    ended = _finish(
        _start(
            config, tmp_path, fault="killed after a checkpoint", step=STOP_AFTER + 2, after=_saved(tmp_path, STOP_AFTER)
        )
    )
    assert ended.returncode == 1
    assert "rank 1 ended without a report, by SIGKILL" in ended.stderr.splitlines()[-1]
    assert _finish(_start(config, tmp_path)).returncode == 0
    assert _losses(tmp_path) == uninterrupted


@pytest.mark.more
def test_resumed_on_another_layout_goes_on_equally(
    config: Config, uninterrupted: dict[int, float], tmp_path: Path
) -> None:
    first = override(config, {"checkpoint.every_steps": 10})
    fault = "launcher killed after a checkpoint"
    # All pipes are closed once the ranks have ended, as they do by themselves without a launcher.
    ended = _finish(_start(first, tmp_path, fault=fault, step=11, after=_saved(tmp_path, 10)))
    assert ended.returncode == -signal.SIGKILL
    assert "stands in" not in ended.stderr
    layouts = {
        "world.size": 3,
        "modules.vision.layout": {"ranks": [0, 1, 2]},
        "modules.language.layout": {"ranks": [0, 1, 2], "tp": 3},
    }
    assert _finish(_start(override(config, layouts), tmp_path)).returncode == 0
    losses = _losses(tmp_path)
    assert losses == pytest.approx(uninterrupted, rel=1e-9)


@pytest.mark.more
def test_a_failing_rank_ends_all_with_its_own_words_last(config: Config, tmp_path: Path) -> None:
    broken = override(config, {"modules.language.optimizer.lr": 1e300})
    ended = _finish(_start(broken, tmp_path))
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    pattern = (
        r"error: rank \d, step 1: checkpoint: step 1: .*not finite, nothing was updated; .*it is the model; "
        r".* resume from"
    )
    assert re.match(pattern, last), last
    assert json.loads((tmp_path / "error.json").read_text())["kind"] == "RunError"


def test_sigterm_leaves_a_long_evaluation_and_saves_first(config: Config, tmp_path: Path) -> None:
    documents = config.resolved()["data"]["train"][0]["synthetic"] | {"documents": 1_000_000}
    long = {"data.evaluation": [{"synthetic": documents}], "evaluation.every_steps": 3, "checkpoint.every_steps": None}
    ended = _finish(_start(override(config, long), tmp_path, fault="stopped by a signal to all, in an evaluation"))
    assert ended.returncode == 143, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: stopped by SIGTERM; resume: auto goes on")
    assert (tmp_path / "checkpoints" / "step-00000003").is_dir()
    assert max(_losses(tmp_path)) == 3
    assert not (tmp_path / "error.json").exists(), "a run that was stopped did not fail"


def test_an_unreadable_evaluation_image_and_a_slow_rank_are_recorded(config: Config, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(picture, "PNG")
    with IndexWriter(tmp_path / "data") as writer:
        (writer.folder / TOKENIZER_NAME).write_text("{}")
        for image in (picture.getvalue(), picture.getvalue(), picture.getvalue()):
            writer.add(Record([1, 2, 3], [False, True, True], "held", "red", [Encoded(0, image)]))
        writer.publish()
    payload = tmp_path / "data" / PAYLOAD_NAME
    payload.write_bytes(bytes(8) + payload.read_bytes()[8:])
    evaluation = {"data.evaluation": [{"path": str(tmp_path / "data"), "split": "held"}], "training.steps": 1}
    run = tmp_path / "run"
    ended = _finish(_start(override(config, evaluation), run, fault="slow", step=0))
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (bad,) = [record for record in records if "why" in record]
    assert bad["bad_index"] == 0
    assert bad["why"].startswith("evaluation held: document 0, item 0: the image bytes cannot be decoded")
    assert [record["evaluation"] for record in records if "evaluation" in record] == ["held"]
    (trained,) = [record for record in records if "modules" in record]
    assert trained["slow_ranks"]["1"] > 1.5


@pytest.mark.parametrize("seconds", [0.0, *(pytest.param(later, marks=pytest.mark.more) for later in (1.5, 3.0))])
def test_ctrl_c_at_start_up_is_one_sentence(config: Config, tmp_path: Path, seconds: float) -> None:
    process = _start(override(config, {"training.steps": 100_000}), tmp_path)
    _wait((tmp_path / "plan.txt").exists)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    ended = _finish(process)
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr


@pytest.mark.more
def test_a_resume_with_other_data_is_refused_before_ranks_start(config: Config, finished: Path) -> None:
    before = (finished / "config.yaml").read_text()
    longer = override(config, {"training.steps": 2 * STEPS})
    ended = _finish(_start(longer, finished, ["training.global_batch_samples=7"]))
    assert ended.returncode == 2
    assert "written with training.global_batch_samples" in ended.stderr
    assert (finished / "config.yaml").read_text() == before


def _start(
    config: Config,
    folder: Path,
    arguments: Sequence[str] = (),
    fault: str = "",
    step: int = 0,
    after: Path = Path(),
) -> subprocess.Popen[str]:
    """The command line, in whose ranks a fault of `tests/distributed/faults` may happen in a step."""
    data = config.resolved()
    data["run"]["dir"] = str(folder)
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(data))
    module = "tests.distributed.faults.script" if fault else "counterpoint.cli"
    command = [sys.executable, "-m", module, "train", str(file), *arguments]
    environment = {**os.environ, "FAULT": fault, "FAULT_STEP": str(step), "FAULT_AFTER": str(after)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )


def _finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=ENDLESS_SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _saved(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"step-{step:08d}"


def _losses(folder: Path) -> dict[int, float]:
    """The last recorded loss of every step."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in records if "modules" in record}


def _wait(happened: object) -> None:
    assert callable(happened)
    deadline = time.monotonic() + ENDLESS_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "the run did not get there"
        time.sleep(0.02)
