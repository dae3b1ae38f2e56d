"""Encoders that users bring equal one plain process in all layouts that they can have."""

from itertools import product

import pytest

from counterpoint.config.load import load_config
from counterpoint.setup.run import prepare_run
from counterpoint.verify.draw import choose
from counterpoint.verify.pool import Pool
from tests.parity.brought import LAYOUTS, MODELS, TENSOR_LAYOUTS, brought_base, brought_config, verify_brought_task
from tests.parity.often import often
from tests.parity.test_named_layouts import assert_equal


@pytest.mark.parametrize(("name", "layout"), often(product(MODELS, LAYOUTS), 3))
def test_a_brought_encoder_equals_one_process(pool: Pool, name: str, layout: str) -> None:
    assert_equal(pool.run(verify_brought_task, brought_config(name, layout)))


@pytest.mark.parametrize("layout", TENSOR_LAYOUTS)
def test_a_brought_encoder_cut_by_its_rules_equals_one_process(pool: Pool, layout: str) -> None:
    assert_equal(pool.run(verify_brought_task, brought_config("test_vit", layout)))


@pytest.mark.parametrize("layout", ["dp2", "dp4_to_tp2", "replicas_zero_bubble", "recomputed", "tp2_dp2_recomputed"])
def test_lanes_without_images_join_with_zero_rows(pool: Pool, layout: str) -> None:
    config = brought_config("test_vit", layout, sparse=True)
    plan, _models, corpus = prepare_run(config)
    shares = [lanes for step in range(2) for lanes in plan.batch(step, corpus.packs(step)).shares["vision"]]
    assert any({bool(lane.spans) for lane in lanes} == {True, False} for lanes in shares)
    assert_equal(pool.run(verify_brought_task, config))


@pytest.mark.more
def test_random_cases_of_a_brought_encoder_equal_one_process(pool: Pool) -> None:
    for case in choose(brought_base("test_vit"), 6, 11, 4):
        assert case.refusal is None
        assert_equal(pool.run(verify_brought_task, load_config(case.config)))
