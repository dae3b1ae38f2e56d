"""Features of several depths join where the folder that both sides start from says, unless they begin anew."""

import json
from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.convert.composite import composite_of
from counterpoint.errors import ConfigError
from counterpoint.setup.depths import check_depths
from tests.unit.judge.whole_configs import FOLDERS, config_of


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """A run whose modules both start from a Qwen3-VL."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(FOLDERS["qwen3_vl"]))
    return config_of(composite_of(FOLDERS["qwen3_vl"]), folder, {})


def _changed(config: Config, into: list[int], fresh: list[str], *, is_whole: bool = True) -> Config:
    data = config.resolved()
    for depth, layer in zip(data["edges"][0]["depths"], into, strict=True):
        depth["into"] = layer
    data["modules"]["vision"]["init_from"]["fresh"] = fresh
    if not is_whole:
        data["modules"]["language"]["init_from"] = None
    return load_config(data)


def test_what_the_folder_says_is_taken(config: Config) -> None:
    check_depths(config)


def test_another_layer_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        check_depths(_changed(config, [1, 5], []))
    assert str(refused.value) == (
        f"edges.0.depths.1.into: got 5, expected 3 for features of layer 2, as {tmp_path}/folder/config.json says; "
        "correct it, or name taps.* in init_from.fresh"
    )
    with pytest.raises(ConfigError, match=r"0\.into: got 3, expected 1.*\n.*1\.into: got 1, expected 3"):
        check_depths(_changed(config, [3, 1], []))


def test_what_begins_anew_may_join_anywhere(config: Config) -> None:
    check_depths(_changed(config, [1, 5], ["taps.2.*"]))
    check_depths(_changed(config, [1, 5], [], is_whole=False))
