# ruff: noqa: E501 (a table reads best with a layout to a line)
"""Features that were computed beforehand equal one plain process in layouts of all kinds."""

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

GIVEN = Path(__file__).with_name("given.yaml")

LAYOUTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "dp3": {"modules.given.layout": {"ranks": ranks(0, 3)}, "modules.vision.layout": {"ranks": ranks(0, 3)}, "modules.language.layout": {"ranks": ranks(0, 3), "tp": 3}},
    "tp2": {"world.size": 4, "modules.given.layout": {"ranks": [0, 1], "tp": 2}, "modules.vision.layout": {"ranks": [0, 1]}, "modules.language.layout": {"ranks": [2, 3], "cp": 2}, "schedule.kind": "zero_bubble"},
    "cp2 without sp": {"world.size": 4, "modules.given.layout": {"ranks": ranks(0, 4), "cp": 2, "tp": 2, "sequence_parallel": False}, "modules.vision.layout": {"ranks": ranks(0, 4)}, "modules.language.layout": {"ranks": ranks(0, 4), "pp": 2}, "modules.language.model.tied": False},
    "frozen": {"modules.given.train": "none", "schedule.run_ahead": 1},
}  # fmt: skip


def given_config(**overrides: Any) -> Config:
    """given.yaml with overrides, in float64."""
    return as_verified(override(load_config(GIVEN), overrides), "float64")


@pytest.mark.parametrize("layout", often(LAYOUTS, 2))
def test_features_equal_one_process(pool: Pool, layout: str) -> None:
    assert_equal(pool.run(verify_task, given_config(**LAYOUTS[layout])))


@pytest.mark.more
def test_random_cases_of_features_equal_one_process(pool: Pool) -> None:
    for case in choose(given_config(), 5, 3, 4):
        assert case.refusal is None
        assert_equal(pool.run(verify_task, as_verified(load_config(case.config), "float64")))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"modules.given.layout": {"pp": 2}}, r"given\.layout\.pp: got 2, expected 1, because features have no layers"),
        ({"modules.given.layout": {"tp": 5}}, r"given\.model\.projector\.hidden: got 24, expected a multiple of"),
        ({"modules.given.model.layers": 2}, r"given\.model\.layers: got an unknown key"),
        ({"edges": [{"source": "vision", "target": "language"}, {"source": "given", "target": "language", "depths": [{"after": 0, "into": 0}]}]}, r"expected none, because given has no layers whose output rows"),
    ],
    ids=["pp", "tp", "layers", "depths"],
)  # fmt: skip
def test_what_features_cannot_do_is_one_sentence(overrides: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        given_config(**overrides)


def test_synthetic_features_need_a_module() -> None:
    overrides: dict[str, Any] = {"edges": [{"source": "vision", "target": "language"}]}
    tree = override(load_config(GIVEN), {}).resolved() | overrides
    del tree["modules"]["given"]
    tree["world"]["idle"] = [0]
    with pytest.raises(
        ConfigError, match=r"features_per_document: got up to 1, expected 0, because no module reads fe"
    ):
        load_config(tree)
