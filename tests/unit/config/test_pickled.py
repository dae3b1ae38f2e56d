"""A config travels to ranks as it is."""

import pickle
from pathlib import Path

import pytest

from counterpoint.config.load import load_config
from tests.parity.layouts import HYBRID, TINY, TOWERS


@pytest.mark.parametrize("path", [TINY, HYBRID, TOWERS], ids=lambda path: path.stem)
def test_a_pickled_config_is_equal(path: Path) -> None:
    config = load_config(path)
    assert pickle.loads(pickle.dumps(config)) == config
