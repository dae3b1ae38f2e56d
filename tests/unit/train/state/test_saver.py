"""What a checkpoint says of the run beside its tensors."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from counterpoint.config.training import CheckpointConfig
from counterpoint.data.fingerprint import DataIdentity
from counterpoint.data.order.order import Exclusion
from counterpoint.execute.tree import ALONE
from counterpoint.train.state import saving
from counterpoint.train.state.checkpoint import TrainingState
from counterpoint.train.state.stored_block import Tensors


def test_all_that_a_run_goes_on_with_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two numbers are alike."""
    written: list[TrainingState] = []

    class Recorded:
        def __init__(self, *_arguments: Any) -> None:
            pass

        def write(self, _tensors: Tensors, state: TrainingState) -> None:
            written.append(state)

    monkeypatch.setattr(saving, "CheckpointWriter", Recorded)
    groups: Any = SimpleNamespace(storage=ALONE)
    engine: Any = SimpleNamespace(held=(), optimizers={}, optimizer_step=7, skipped=2)
    identity = DataIdentity(5, {"data.packing": True}, {"somebodys": "1.2"})
    saver = saving.Saver(tmp_path, CheckpointConfig(), identity, (), groups)
    saver.save(engine, 9, (Exclusion(1, 3, 11), Exclusion(0, 4, 12)))
    assert written == [
        TrainingState(
            seed=5,
            data_step=9,
            optimizer_step=7,
            skipped=2,
            exclusions=((1, 3, 11), (0, 4, 12)),
            data={"data.packing": True},
            plugins={"somebodys": "1.2"},
        )
    ]
