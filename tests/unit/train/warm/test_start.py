"""What a warm start reads."""

from pathlib import Path

from counterpoint.train.state.checkpoint import checkpoint_folder
from counterpoint.train.warm.start import _checkpoint


def test_a_run_means_its_newest_checkpoint(tmp_path: Path) -> None:
    for step in (2, 10, 5):
        checkpoint_folder(tmp_path, step).mkdir(parents=True)
    assert _checkpoint("modules.language.init_from", tmp_path) == checkpoint_folder(tmp_path, 10)
