"""A run folder that holds another model or optimizer is refused, and left as it is."""

from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.errors import CheckpointError
from counterpoint.setup.run import build_plan
from counterpoint.setup.run_folder import open_run_folder

EXAMPLE = Path(__file__).parents[3] / "examples" / "language_only.yaml"
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
