"""Every vision tower equals one plain process in layouts of all kinds."""

from itertools import product

import pytest

from counterpoint.verify.case import verify_task
from counterpoint.verify.command import run_case
from counterpoint.verify.draw import choose
from counterpoint.verify.pool import Pool
from tests.parity.encoders import LAYOUTS, TOWERS, encoder_base, encoder_config
from tests.parity.layouts import override
from tests.parity.often import often
from tests.parity.test_named_layouts import assert_equal


@pytest.mark.parametrize(("tower", "layout"), often(product(TOWERS, LAYOUTS), 2))
def test_a_tower_equals_one_process(pool: Pool, tower: str, layout: str) -> None:
    assert_equal(pool.run(verify_task, encoder_config(tower, layout)))


def test_a_tower_whose_taps_need_no_gradient_equals_one_process(pool: Pool) -> None:
    """Its last layers train: gradients come for the rows of all depths, and go on into those of the last alone."""
    keys = {"modules.vision.train": ["layers.3.*", "norm.*", "projector.*"]}
    assert_equal(pool.run(verify_task, override(encoder_config("qwen3_vl", "tp2_pp2_to_dp2"), keys)))


@pytest.mark.sweep
@pytest.mark.parametrize("tower", TOWERS)
def test_24_random_cases_of_a_tower_equal_one_process(pool: Pool, tower: str) -> None:
    outcomes = [run_case(pool, case, "float64") for case in choose(encoder_base(tower), 24, 20, 8)]
    assert {o.case.id: o.words for o in outcomes if o.status != "drawn"} == {}
