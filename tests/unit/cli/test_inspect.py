"""The commands inspect and diff: what they print, and with what they end."""

import json
from pathlib import Path

import pytest

from counterpoint.train.state.checkpoint import checkpoint_folder
from tests.unit.cli.conftest import Command
from tests.unit.train.state.checkpoints import blocks, state_of, values, writer


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with checkpoints of steps 5 and 6."""
    saving = writer(tmp_path / "run")
    for step in (5, 6):
        saving.write(blocks(values(step)), state_of(step))
    return tmp_path / "run"


def test_the_command_prints_text_and_data(counterpoint: Command, run: Path) -> None:
    shown = counterpoint("inspect", run)
    assert shown.code == 0
    for words in ("a run", "checkpoints: steps 5, 6", "language optimizer", "all files are there and have their sizes"):
        assert words in shown.out
    data = json.loads(counterpoint("inspect", run, "--json", "--verify").out)
    assert data["verified"] is True
    assert data["tensors"][0] == {"name": "model/language.embed", "shape": [6, 4], "dtype": "float32"}
    next(checkpoint_folder(run, 6).glob("*.distcp")).unlink()
    damaged = counterpoint("inspect", run)
    assert damaged.code == 2
    assert "1 things in it are damaged or missing" in damaged.err
    assert counterpoint("inspect", run.parent).code == 2


def test_the_command_ends_with_what_it_found(counterpoint: Command, run: Path, tmp_path: Path) -> None:
    first, second = (checkpoint_folder(run, step) for step in (5, 6))
    same = counterpoint("diff", first, first)
    assert (same.code, "equal: names, shapes and every value, and dtypes" in same.out) == (0, True)
    other = counterpoint("diff", first, second)
    assert other.code == 1
    assert "3 tensors compared, 3 differ" in other.out
    data = json.loads(counterpoint("diff", first, second, "--json").out)
    assert (data["equal"], len(data["different"])) == (False, 3)
    assert counterpoint("diff", first, tmp_path / "nowhere").code == 2
    next(second.glob("*.distcp")).unlink()
    assert counterpoint("diff", first, second).code == 2
