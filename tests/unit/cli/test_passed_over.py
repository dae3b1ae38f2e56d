"""From which checkpoint a run goes on, as far as it is seen before ranks start, and that a finished run says so."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.config.load import dump_config, load_config
from counterpoint.config.schema import Config
from counterpoint.errors import CheckpointError
from counterpoint.setup.data import identity_of
from counterpoint.setup.run_folder import check_run_folder
from counterpoint.train.state.checkpoint import TrainingState, checkpoint_folder
from counterpoint.train.state.manifest import MANIFEST_FILE
from tests.unit.cli.conftest import Command, write
from tests.unit.train.state.checkpoints import blocks, writer

STEPS = 4


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no manifest": lambda folder: (folder / MANIFEST_FILE).unlink(),
    "no file of blocks": lambda folder: (folder / "__1_0.distcp").unlink(),
    "a file of blocks cut off": lambda folder: (folder / "__0_0.distcp").write_bytes(b"short"),
    "nothing": _empty,
    "junk for metadata": lambda folder: (folder / ".metadata").write_bytes(b"junk"),
}


@pytest.fixture
def config(settings: dict[str, Any], tmp_path: Path) -> Config:
    """A run of four steps with checkpoints of three of them."""
    settings["training"]["steps"] = STEPS
    loaded = load_config(write(settings, tmp_path / "config.yaml"))
    for step in (1, 2, 3):
        _save(loaded, step)
    (tmp_path / "run" / "config.yaml").write_text(dump_config(loaded))
    return loaded


def _save(config: Config, step: int, **changes: Any) -> None:
    state = TrainingState(seed=0, data_step=step, optimizer_step=step, data=identity_of(config).fingerprint)
    writer(Path(config.run.dir)).write(blocks({"weight": torch.ones(4, 2)}), replace(state, **changes))


def _folder(config: Config, step: int) -> Path:
    return checkpoint_folder(Path(config.run.dir), step)


def _chosen(config: Config) -> int | None:
    opened = check_run_folder(config, {})
    return None if opened is None else opened.state.data_step


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_one_is_passed_over(config: Config, damage: Callable[[Path], object]) -> None:
    assert _chosen(config) == 3
    for step in (3, 2):
        damage(_folder(config, step))
        assert _chosen(config) == step - 1
    damage(_folder(config, 1))
    with pytest.raises(CheckpointError, match=r"none of the 3 checkpoints in .* is whole, expected one to go on from"):
        _chosen(config)


def test_without_a_whole_one_a_run_does_not_start_anew(counterpoint: Command, config: Config, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        DAMAGE["no manifest"](_folder(config, step))
    before = sorted(Path(config.run.dir).rglob("*"))
    ended = counterpoint("train", tmp_path / "config.yaml")
    assert ended.code == 2
    assert "step-00000003: it has lost its manifest.json" in ended.err
    assert "start anew with checkpoint.resume=none" in ended.err
    assert len(ended.err.splitlines()) == 1
    assert sorted(Path(config.run.dir).rglob("*")) == before
    with pytest.raises(AssertionError, match="as far as starting ranks"):
        counterpoint("train", tmp_path / "config.yaml", "checkpoint.resume=none")


def test_one_of_other_data_is_never_passed_over(counterpoint: Command, config: Config, tmp_path: Path) -> None:
    _save(config, 3, seed=1)
    ended = counterpoint("train", tmp_path / "config.yaml")
    assert ended.code == 2
    assert "step-00000003: it was written with run.seed 1, got 0" in ended.err
    DAMAGE["junk for metadata"](_folder(config, 3))
    with pytest.raises(AssertionError, match="as far as starting ranks"):
        counterpoint("train", tmp_path / "config.yaml")


def test_a_finished_run_says_so(counterpoint: Command, config: Config, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="as far as starting ranks"):
        counterpoint("train", tmp_path / "config.yaml")
    _save(config, STEPS)
    ended = counterpoint("train", tmp_path / "config.yaml")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{config.run.dir}: finished, it has trained 4 of 4 steps; raise training.steps to go")
    assert len(ended.out.splitlines()) == 1
    for change in ("training.steps=5", "checkpoint.resume=none"):
        with pytest.raises(AssertionError, match="as far as starting ranks"):
            counterpoint("train", tmp_path / "config.yaml", change)


def test_a_wrong_warm_start_of_a_finished_run_is_an_error(
    counterpoint: Command, config: Config, tmp_path: Path
) -> None:
    _save(config, STEPS)
    ended = counterpoint("train", tmp_path / "config.yaml", f"modules.language.init_from={tmp_path / 'nowhere'}")
    assert ended.code == 2
    assert "is no Hugging Face folder" in ended.err


def test_one_rank_of_a_finished_run_says_so(
    counterpoint: Command, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _save(config, STEPS)
    for rank in ("0", "1"):
        for name, value in {"RANK": rank, "WORLD_SIZE": "4", "LOCAL_RANK": rank, "MASTER_ADDR": "localhost",
                            "MASTER_PORT": "1"}.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        ended = counterpoint("train", tmp_path / "config.yaml")
        assert ended.code == 0
        assert len(ended.out.splitlines()) == (rank == "0")


def test_warm_starts_read_whole_checkpoints_only(counterpoint: Command, config: Config, tmp_path: Path) -> None:
    earlier = tmp_path / "run"
    for damage in ("a file of blocks cut off", "no manifest"):
        DAMAGE[damage](_folder(config, 3))
        ended = counterpoint(
            "train", tmp_path / "config.yaml", f"run.dir={tmp_path / 'new'}", f"modules.language.init_from={earlier}"
        )
        assert ended.code == 2
        assert "step-00000003: " in ended.err
        assert "expected a complete checkpoint; choose another in modules.language.init_from.path" in ended.err
        assert not (tmp_path / "new").exists()


def test_generation_reads_whole_checkpoints_only(counterpoint: Command, config: Config, tmp_path: Path) -> None:
    DAMAGE["junk for metadata"](_folder(config, 3))
    ended = counterpoint("evaluate", config.run.dir)
    assert ended.code == 2
    assert "step-00000003: .metadata is not what was written" in ended.err
    assert "take another step with --step, or remove its folder and train on from an older one" in ended.err
