# ruff: noqa: E501 (a table reads best with a layout to a line)
"""A tower of depth maps beside one of images equals one plain process in layouts of all kinds."""

from pathlib import Path
from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.errors import ConfigError
from counterpoint.verify.case import verify_task
from counterpoint.verify.command import as_verified
from counterpoint.verify.draw import choose
from counterpoint.verify.pool import Pool
from tests.parity.layouts import override, ranks
from tests.parity.often import often
from tests.parity.test_named_layouts import assert_equal

DEPTH = Path(__file__).with_name("depth.yaml")

LAYOUTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "tp2 and cp2": {"world.size": 4, "modules.depth.layout": {"ranks": ranks(0, 4), "tp": 2, "cp": 2}, "modules.vision.layout": {"ranks": ranks(0, 4)}, "modules.language.layout": {"ranks": ranks(0, 4), "pp": 2}, "modules.language.model.tied": False},
    "pp2": {"world.size": 4, "modules.depth.layout": {"ranks": [0, 1], "pp": 2}, "modules.vision.layout": {"ranks": [0, 1]}, "modules.language.layout": {"ranks": [2, 3], "cp": 2}, "schedule.kind": "zero_bubble"},
}  # fmt: skip


def depth_config(**overrides: Any) -> Config:
    """depth.yaml with overrides, in float64."""
    return as_verified(override(load_config(DEPTH), overrides), "float64")


@pytest.mark.parametrize("layout", often(LAYOUTS, 2))
def test_depth_maps_equal_one_process(pool: Pool, layout: str) -> None:
    assert_equal(pool.run(verify_task, depth_config(**LAYOUTS[layout])))


@pytest.mark.more
def test_random_cases_of_depth_maps_equal_one_process(pool: Pool) -> None:
    for case in choose(depth_config(), 5, 3, 4):
        assert case.refusal is None
        assert_equal(pool.run(verify_task, as_verified(load_config(case.config), "float64")))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"modules.depth.model.channels": 3}, r"depth\.model\.channels: got 3, expected 1, because modules\.depth\.model\.image\.kind is depth"),
        ({"modules.depth.model.image.near": 10.0}, r"depth\.model\.image\.near: got 10, expected less than modules\.depth\.model\.image\.far, 10; lower"),
        ({"modules.depth.model.image.resampling": "box"}, r"depth\.model\.image\.resampling: got an unknown key, expected one of .*per_metre"),
        ({"modules.depth.model.image.kind": "depths"}, r'depth\.model\.image\.kind: got "depths", expected .*"depth"'),
        ({"modules.vision.model.channels": 1, "modules.depth.model": load_config(DEPTH).resolved()["modules"]["vision"]["model"]}, r"the mark \"<image>\" of 2 modules"),
    ],
    ids=["three channels", "no distance between", "a filter", "no kind", "one mark"],
)  # fmt: skip
def test_what_depth_maps_cannot_do_is_one_sentence(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        depth_config(**overrides)
