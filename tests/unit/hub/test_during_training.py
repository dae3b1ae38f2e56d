"""Exports of checkpoints as they are published."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError, InputError
from counterpoint.execute.groups import Groups
from counterpoint.hub.contents import meta_tensors
from counterpoint.setup.hub import HubExports, check_hub
from counterpoint.setup.run import build_models
from tests.unit.convert.test_modules_round_trip import case
from tests.unit.hub.runs import write_run
from tests.unit.judge.folders import write_tensors
from tests.unit.judge.whole_configs import FOLDERS, config_of
from tests.unit.train.state.checkpoints import SeveralFiles, blocks, state_of

NORM = "language_model.model.norm.weight"


def _config(tmp_path: Path, **hub: Any) -> Config:
    whole, _ours, theirs = case("llava")
    write_tensors(tmp_path / "model", FOLDERS["llava"], theirs)
    data = config_of(whole, tmp_path / "model", {}).resolved()
    data["training"]["steps"], data["checkpoint"] = 7, {"every_steps": 1, "hub": hub}
    return load_config(data)


def _train(config: Config, steps: list[int]) -> Path:
    """Write the checkpoints of these steps as a run of one rank does; all values of each are the step's number."""
    run, models = write_run(config, {}), build_models(config)
    shutil.rmtree(run / "checkpoints")
    alone = cast(Groups, SimpleNamespace(storage=None))
    saving = SeveralFiles(run, None, True, 9, False, HubExports(config, models, alone).after)
    shapes = {f"model/{m}.{n}": tuple(t.shape) for m, one in models.items() for n, t in meta_tensors(one).items()}
    for step in steps:
        tensors = {key: torch.full(shape, float(step)) for key, shape in shapes.items()}
        saving.write(blocks(tensors), state_of(step))
    return run


def test_those_that_are_due_are_exported_and_the_newest_kept(tmp_path: Path) -> None:
    config = _config(tmp_path, every_steps=2, keep_last=2, dtype="bfloat16", path=str(tmp_path / "exports"))
    check_hub(config, build_models(config))
    _train(config, [3, 4, 6, 7])
    exports = sorted((tmp_path / "exports").iterdir())
    assert [folder.name for folder in exports] == ["step-00000006", "step-00000007"]
    found = [load_file(folder / "model.safetensors")[NORM] for folder in exports]
    assert [(float(norm[0]), norm.dtype) for norm in found] == [(6.0, torch.bfloat16), (7.0, torch.bfloat16)]


def test_one_that_fails_is_said_and_the_checkpoint_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(tmp_path, path=str(tmp_path / "exports"))
    (tmp_path / "exports").write_text("no folder")
    run = _train(config, [6, 7])
    assert [folder.name for folder in sorted((run / "checkpoints").iterdir())] == ["step-00000006", "step-00000007"]
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("warning: the export of step 7 failed, training goes on:")
    assert "exports is a file, expected a folder for" in said


def test_folders_of_others_are_never_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(tmp_path, every_steps=1, keep_last=1, path=str(tmp_path / "exports"))
    for step in (2, 5):
        (tmp_path / "exports" / f"step-{step:08d}").mkdir(parents=True)
        (tmp_path / "exports" / f"step-{step:08d}" / "theirs").write_text("work")
    _train(config, [4, 5, 6])
    names = [folder.name for folder in sorted((tmp_path / "exports").iterdir())]
    assert names == ["step-00000002", "step-00000005", "step-00000006"]
    assert all((tmp_path / "exports" / name / "theirs").exists() for name in names[:2])
    said = " ".join(capsys.readouterr().out.split())
    assert "the export of step 5 failed, training goes on: checkpoint.hub.path:" in said
    assert "is there and not an export of this run" in said


def test_what_cannot_be_exported_is_refused_before_it_runs(tmp_path: Path) -> None:
    config = _config(tmp_path)
    elsewhere = load_config(config, [f"modules.language.init_from.path={tmp_path / 'copy'}"])
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    with pytest.raises(InputError, match="expected one folder that holds all modules"):
        check_hub(elsewhere, build_models(elsewhere))


def test_exports_are_of_steps_with_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint\.hub\.every_steps: got 3, expected a multiple of .*, 2"):
        load_config(_config(tmp_path), ["checkpoint.every_steps=2", "checkpoint.hub.every_steps=3"])
    with pytest.raises(ConfigError, match=r"expected null, since checkpoint\.every_steps is"):
        load_config(_config(tmp_path), ["checkpoint.every_steps=null", "checkpoint.hub.every_steps=3"])
