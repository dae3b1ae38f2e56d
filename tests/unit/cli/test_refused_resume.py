"""A run goes on only with the data order of its checkpoint; a refusal leaves the run folder as it was."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.config.load import dump_config, load_config
from counterpoint.setup.data import identity_of
from counterpoint.train.state.checkpoint import STATE_FILE, TrainingState, checkpoint_folder
from tests.unit.cli.conftest import Command, Ended, write
from tests.unit.train.state.checkpoints import write_older

JOINED = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
SYNTHETIC = {"documents": 9, "seed": 3, "text_tokens": {"kind": "constant", "value": 8}}

# overrides, the first key that differs, what it was, what it is
CHANGES = [
    ("run.seed=1", "run.seed", "0", "1"),
    ("training.global_batch_samples=8", "training.global_batch_samples", "4", "8"),
    ("data.sequence_tokens=31", "data.sequence_tokens", "32", "31"),
    ("data.packing=true", "data.packing", "false", "true"),
    ("modules.vision.model.image.size=12", "modules.vision.model.image.size", "8", "12"),
    ("modules.vision.model.image.max_patches=9", "modules.vision.model.image.max_patches", "4", "9"),
    ("data.train.0.split=held_out", "data.train.0.split", '"train"', '"held_out"'),
    ("data.train.0.weight=2.0", "data.train.0.weight", "1.0", "2.0"),
    ("data.train.1.synthetic.seed=4", "data.train.1.synthetic.seed", "3", "4"),
    ("data.train.1.synthetic.text_tokens.value=9", "data.train.1.synthetic.text_tokens.value", "8", "9"),
]


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Path:
    """A config of two steps whose run folder holds a checkpoint of step 1."""
    settings["data"]["train"].append({"synthetic": SYNTHETIC})
    file = write(settings, tmp_path / "config.yaml")
    loaded = load_config(file)
    state = TrainingState(seed=0, data_step=1, optimizer_step=1, data=identity_of(loaded).fingerprint)
    write_older(checkpoint_folder(tmp_path / "run", 1), {"weight": torch.ones(1)}, asdict(state))
    (tmp_path / "run" / "config.yaml").write_text(dump_config(loaded))
    return file


@pytest.fixture(params=["started", "joined"], autouse=True)
def _world(request: pytest.FixtureRequest, counterpoint: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "joined":
        for name, value in JOINED.items():
            monkeypatch.setenv(name, value)


def _refused(ended: Ended, run: Path, before: str, *words: str) -> None:
    assert ended.code == 2, ended.err
    assert ended.err.startswith("error: ")
    assert len(ended.err.splitlines()) == 1
    assert [word for word in words if word not in ended.err] == [], ended.err
    assert (run / "config.yaml").read_text() == before
    assert {path.name for path in run.iterdir()} - {"lock"} == {"checkpoints", "config.yaml"}


@pytest.mark.parametrize(("override", "key", "was", "now"), CHANGES)
def test_a_change_of_data(
    counterpoint: Command, config: Path, tmp_path: Path, override: str, key: str, was: str, now: str
) -> None:
    run = tmp_path / "run"
    before = (run / "config.yaml").read_text()
    ended = counterpoint("train", config, override)
    _refused(ended, run, before, f"written with {key} {was}, got {now}, expected the same", "choose another run.dir")


def test_a_dataset_of_other_content(
    counterpoint: Command, config: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in pictures.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    moved_to = f"data.train.0.path={moved}"
    with pytest.raises(AssertionError, match="as far as starting ranks"):
        counterpoint("train", config, moved_to)
    manifest = json.loads((moved / "index.json").read_text())
    (moved / "index.json").write_text(json.dumps(manifest | {"payload_sha256": "0" * 64}))
    ended = counterpoint("train", config, moved_to)
    assert ended.code == 2
    assert "data.train.0.path" in ended.err
    assert "8 documents, sha256" in ended.err


def test_a_source_less(counterpoint: Command, settings: dict[str, Any], config: Path, tmp_path: Path) -> None:
    settings["data"]["train"].pop()
    before = (tmp_path / "run" / "config.yaml").read_text()
    ended = counterpoint("train", write(settings, config))
    _refused(ended, tmp_path / "run", before, "data.train.1.", "got nothing")


@pytest.mark.parametrize("override", ["training.steps=9", "evaluation.batch_samples=2", "schedule.microbatches=2"])
def test_what_does_not_touch_the_order_may_change(counterpoint: Command, config: Path, override: str) -> None:
    with pytest.raises(AssertionError, match="as far as starting ranks"):
        counterpoint("train", config, override)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"seed": 0, "data_step": 2, "optimizer_step": 2, "exclusions": []}, "does not say which data"),
        (
            {"seed": 0, "data_step": "2", "optimizer_step": 2, "exclusions": [], "data": {}},
            "data_step: Input should be",
        ),
        ({"seed": 0, "data_step": 2, "optimizer_step": 2, "exclusions": [[0, 1]], "data": {}}, "exclusions: 0: 2"),
        ({"seed": 0, "data_step": 2, "exclusions": [], "data": {}}, "optimizer_step: "),
        ({"seed": 0, "data_step": -1, "optimizer_step": 2, "data": {}}, "data_step: Input should be"),
        ([], "Input should be"),
    ],
)
def test_a_state_that_is_none(counterpoint: Command, config: Path, tmp_path: Path, state: object, words: str) -> None:
    (checkpoint_folder(tmp_path / "run", 1) / STATE_FILE).write_text(json.dumps(state))
    before = (tmp_path / "run" / "config.yaml").read_text()
    _refused(counterpoint("train", config), tmp_path / "run", before, words, "checkpoint.resume=none")


def test_starting_anew_is_the_remedy(counterpoint: Command, config: Path) -> None:
    with pytest.raises(AssertionError, match="as far as starting ranks"):
        counterpoint("train", config, "run.seed=1", "checkpoint.resume=none")


def test_the_config_of_a_run_that_was_moved_is_refused(config: Path, tmp_path: Path, counterpoint: Command) -> None:
    """It names the folder of before, in which nothing would be resumed from."""
    (tmp_path / "run").rename(tmp_path / "moved")
    before = (tmp_path / "moved" / "config.yaml").read_text()
    words = ("expected that folder", f"run.dir={tmp_path / 'moved'}")
    for other in ((), ("run.seed=1",)):
        ended = counterpoint("train", tmp_path / "moved" / "config.yaml", *other)
        _refused(ended, tmp_path / "moved", before, *words)
    assert not (tmp_path / "run").exists()
    # Named, the folder is what was meant; this one's data differs.
    named = (f"run.dir={tmp_path / 'moved'}", "run.seed=1")
    ended = counterpoint("train", tmp_path / "moved" / "config.yaml", *named)
    _refused(ended, tmp_path / "moved", before, "with run.seed 0, got 1")
