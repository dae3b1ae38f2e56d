"""What a warm start reads."""

from pathlib import Path

from counterpoint.train.state.checkpoint import checkpoint_folder
from counterpoint.train.warm.folders import checkpoint_at


def test_a_run_means_its_newest_checkpoint(tmp_path: Path) -> None:
    for step in (2, 10, 5):
        checkpoint_folder(tmp_path, step).mkdir(parents=True)
    assert checkpoint_at(tmp_path).folder == checkpoint_folder(tmp_path, 10)
