"""A run's config with the keys of a transformers' folder makes the sizes with which that folder is judged."""

from dataclasses import replace
from pathlib import Path

import pytest

from counterpoint.convert.whole import whole_of
from counterpoint.plan.build import sizes_of
from counterpoint.plan.sizes import DecoderSizes, TowerSizes
from tests.unit.judge.models import CONFIGS
from tests.unit.judge.whole_configs import FOLDERS, config_of

CASES = {**FOLDERS, **CONFIGS}
del CASES["llama_bias"]  # No key makes a decoder with biases everywhere.


@pytest.mark.parametrize("name", CASES)
def test_a_run_with_the_keys_of_a_folder_has_its_sizes(name: str, tmp_path: Path) -> None:
    whole = whole_of(CASES[name])
    config = config_of(whole, tmp_path / "folder", {})
    for module, stored in whole.modules.items():
        found, expected = sizes_of(config, module, None), stored.sizes
        if stored.adds_projector and isinstance(found, TowerSizes) and isinstance(expected, TowerSizes):
            expected = replace(expected, projector=found.projector, out=found.out)
        if isinstance(expected, DecoderSizes) and "-" not in expected.pattern:
            expected = replace(expected, ffn=0)
        assert found == expected, module
