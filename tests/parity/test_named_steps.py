"""Every named way to run a step equals one plain process."""

import pytest

from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.pool import Pool
from tests.parity.often import often_unless
from tests.parity.steps import HYBRID_STEPS, STEPS, hybrid_step_config, step_config
from tests.parity.test_named_layouts import assert_equal

COVERED = {
    "interleaved": "interleaved_encoder",
    "zero_bubble_tied_tp2": "zero_bubble_tied_over_pp2",
    "group_of_2": "group_of_3_fills_gaps",
    "recomputed_zero_bubble": "recomputed",
    "frozen_vision_ahead": "frozen_vision_ahead_in_groups",
    "projector_only_zero_bubble": "projector_only",
    "projector_and_language": "projector_only",
}
"""Ways that carry the marker `more`, and the one of every run that has what they have. Recomputation under split
backwards is that of the hybrid pair."""


@pytest.mark.parametrize("name", often_unless(STEPS, COVERED))
def test_a_step_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, step_config(name)))


@pytest.mark.parametrize("name", often_unless(HYBRID_STEPS, {"zero_bubble_ep4": "zero_bubble_recomputed_interleaved"}))
def test_a_hybrid_step_equals_one_process(pool: Pool, name: str) -> None:
    result: CaseResult = pool.run(verify_task, hybrid_step_config(name))
    assert_equal(result)
    assert not result.is_tied
