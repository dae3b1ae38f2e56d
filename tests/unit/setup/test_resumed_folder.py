"""A run folder that holds another model or optimizer is refused, and left as it is."""

from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import CheckpointError
from counterpoint.setup.run import build_plan
from counterpoint.setup.run_folder import _check_models, check_run_folder, open_run_folder

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"
PAIR = EXAMPLE.with_name("synthetic_disjoint.yaml")
MUON = "modules.language.optimizer={kind: muon, lr: 1.0e-3}"


def test_checkpoints_of_another_optimizer_are_refused_and_their_config_is_kept(tmp_path: Path) -> None:
    first = load_config(EXAMPLE, [f"run.dir={tmp_path}", MUON])
    open_run_folder(first, build_plan(first))
    written = (tmp_path / "config.yaml").read_text()
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    other = load_config(EXAMPLE, [f"run.dir={tmp_path}"])
    expected = r"optimizer\.kind was 'muon' there, got 'adamw'; restore it, or .* with modules\.language\.init_from$"
    with pytest.raises(CheckpointError, match=expected):
        open_run_folder(other, build_plan(other))
    assert (tmp_path / "config.yaml").read_text() == written
    anew = load_config(EXAMPLE, [f"run.dir={tmp_path}", "checkpoint.resume=none"])
    open_run_folder(anew, build_plan(anew))


def test_features_that_enter_another_layer_are_of_another_model(tmp_path: Path) -> None:
    """No tensor shows where they enter."""
    edges = "edges=[{{source: vision, target: language, depths: [{{after: 1, into: {into}}}]}}]"
    first, other, none = (
        load_config(PAIR, [f"run.dir={tmp_path}", *more])
        for more in ([edges.format(into=1)], [edges.format(into=2)], [edges.format(into=1), "training.steps=9"])
    )
    open_run_folder(first, build_plan(first))
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"the edge of vision and language with depths was .*'into': 1.* there"):
        check_run_folder(other, build_plan(other).facts)
    _check_models(none, tmp_path)


def test_a_config_that_cannot_be_read_is_no_leave_to_go_on(tmp_path: Path) -> None:
    config = load_config(EXAMPLE, [f"run.dir={tmp_path}"])
    open_run_folder(config, build_plan(config))
    assert not list(tmp_path.glob("*.partial"))
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(CheckpointError, match=r"whose config cannot be read .*; restore .*config\.yaml"):
        check_run_folder(config, build_plan(config).facts)
    (tmp_path / "config.yaml").unlink()
    _check_models(config, tmp_path)


def test_checkpoints_are_set_aside_behind_all_others(tmp_path: Path) -> None:
    """Also where some of those before them were removed."""
    (tmp_path / "checkpoints-2" / "step-00000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    anew = load_config(EXAMPLE, [f"run.dir={tmp_path}", "checkpoint.resume=none"])
    open_run_folder(anew, build_plan(anew))
    assert (tmp_path / "checkpoints-3" / "step-00000003").is_dir()


def test_a_launcher_that_starts_a_run_again_does_not_begin_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = load_config(EXAMPLE, [f"run.dir={tmp_path}", "checkpoint.resume=none"])
    facts = build_plan(anew).facts
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "2")
    assert check_run_folder(anew, facts) is None
    (tmp_path / "checkpoints" / "step-00000003").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"got none in restart 2 by the launcher, .* expected auto"):
        open_run_folder(anew, build_plan(anew))
    assert (tmp_path / "checkpoints" / "step-00000003").is_dir()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(CheckpointError, match="in restart 1 by the launcher"):
        check_run_folder(anew, facts)
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert check_run_folder(anew, facts) is None
