"""A run whose checkpoint has moments of other updates is refused before anything in its folder changes."""

from pathlib import Path

import pytest
import torch

from counterpoint.config.load import dump_config, load_config
from counterpoint.optimizers import OPTIMIZERS
from counterpoint.plan.trainability import is_trained, named_tensors
from counterpoint.setup.data import identity_of
from counterpoint.setup.run import build_plan
from tests.unit.cli.conftest import Command
from tests.unit.train.state.checkpoints import blocks, state_of, writer

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"
OPTIMIZER = "modules.language.optimizer={kind: muon, lr: 1.0e-3, adamw_for: [%s]}"
TRAIN = "modules.language.train=%s"


def _files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def _trained(folder: Path, *keys: str) -> None:
    """A run of two steps of which there is no more than its config and a checkpoint."""
    config = load_config(EXAMPLE, [f"run.dir={folder}", *keys])
    module = config.modules["language"]
    tensors: dict[str, torch.Tensor] = {}
    for name, shape in named_tensors(build_plan(config).facts["language"]):
        kept = OPTIMIZERS["muon"].moments(module.optimizer, name, shape) if is_trained(name, module.train) else ()
        here = (f"model/language.{name}", *(f"optimizer/language.{name}/{moment}" for moment in kept))
        tensors |= {key: torch.ones(4) for key in here}
    identity = identity_of(config)
    writer(folder).write(blocks(tensors), state_of(2, data=identity.fingerprint))
    (folder / "config.yaml").write_text(dump_config(config))


@pytest.mark.parametrize(
    ("before", "now", "sentence"),
    [
        (
            (OPTIMIZER % "", TRAIN % "all"),
            (OPTIMIZER % "'*.attention.*'", TRAIN % "all"),
            "of language.layers.0.attention.q.weight momentum is there, expected exp_avg and exp_avg_sq, by "
            "modules.language.train or modules.language.optimizer.adamw_for; ",
        ),
        (
            (OPTIMIZER % "", TRAIN % "['layers.*']"),
            (OPTIMIZER % "", TRAIN % "all"),
            "of language.embed.weight no moments are there, expected exp_avg and exp_avg_sq, by ",
        ),
        (
            (OPTIMIZER % "", TRAIN % "all"),
            (OPTIMIZER % "", TRAIN % "['layers.*']"),
            "of language.embed.weight exp_avg and exp_avg_sq are there, expected no moments, by ",
        ),
    ],
)
def test_other_updates_are_refused_and_the_folder_is_kept(
    counterpoint: Command, tmp_path: Path, before: tuple[str, ...], now: tuple[str, ...], sentence: str
) -> None:
    folder = tmp_path / "run"
    _trained(folder, *before)
    written = _files(folder)
    ended = counterpoint("train", EXAMPLE, f"run.dir={folder}", "run.device=cpu", *now)
    said = " ".join(ended.err.split())
    assert ended.code == 2
    assert f"holds checkpoints of other updates: {sentence}" in said
    assert "start from the values with modules.language.init_from" in said
    assert _files(folder) == written


def test_the_same_updates_go_on(counterpoint: Command, tmp_path: Path) -> None:
    _trained(tmp_path, OPTIMIZER % "", TRAIN % "all")
    keys = (OPTIMIZER % "", TRAIN % "all", "training.steps=2", "run.device=cpu", f"run.dir={tmp_path}")
    ended = counterpoint("train", EXAMPLE, *keys)
    assert ended.code == 0
    assert "finished, it has trained 2 of 2 steps" in ended.out
