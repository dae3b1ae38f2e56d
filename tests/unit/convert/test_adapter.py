"""transformers loads an adapter that lies beside a model, so a folder with one is refused."""

from pathlib import Path

import pytest

from counterpoint.convert.folder import ModelFolder
from counterpoint.errors import CheckpointError
from tests.unit.judge.hub_folders import REASON, write_hub_folder


def test_a_folder_with_an_adapter_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason=REASON)
    write_hub_folder("llama", 0, "whole", tmp_path)
    ModelFolder(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: says that an adapter belongs to the model"):
        ModelFolder(tmp_path)
