"""Every named layout equals one plain process: loss, norm, every gradient, every update, in float64."""

from typing import Any
from unittest.mock import patch

import pytest

from counterpoint.config.schema import Config
from counterpoint.train.engine import Engine
from counterpoint.verify import case
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.layouts import HYBRIDS, LAYOUTS, hybrid_config, language_only, named_config
from tests.parity.often import often_unless

COVERED = {
    "dp4_to_dp1": "empty_encoder_shares",
    "dp4_to_tp2_pp2": "dp2_to_tp2_pp3",
    "tp2_to_pp3": "gpipe_pp3",
    "dp3_to_tp2_dp2": "dp3_to_dp2",
    "homogeneous_dp4": "homogeneous_tp2_dp2",
    "homogeneous_pp2_tp2_dp2": "tp2_pp2_to_dp4",
    "colocated_dp4_to_tp4": "colocated_dp4_to_tp2_dp2",
    "colocated_pp4_to_dp4": "pp3_to_tp3",
    "colocated_tp3": "mixed_2_of_4",
    "mixed_language_inside": "mixed_encoder_inside",
    "cp2_both_colocated": "cp2_tp2_without_sp",
    "tied_over_pp2": "tied_over_pp3_tp2",
    "copied_kv_heads_over_tp2_cp2": "copied_kv_heads_over_tp4_cp2",
    "copied_kv_heads_over_tp4_without_sp": "copied_kv_heads_over_tp4_cp2",
    "copied_kv_heads_over_tp6": "copied_kv_heads_over_tp4_cp2",
    "copied_kv_heads_over_tp8": "copied_kv_heads_over_tp4_cp2",
    "colocated_tp2_dp4_to_tp4_dp2_uniform": "colocated_tp2_dp4_to_tp4_dp2_ragged",
    "colocated_tp4_dp2_to_tp2_dp4_ragged": "colocated_tp2_dp4_to_tp4_dp2_ragged",
    "colocated_tp4_dp2_to_tp2_dp4_uniform": "colocated_tp2_dp4_to_tp4_dp2_ragged",
}
"""Layouts of the dense pair that carry the marker `more`, and the one of every run that has what they have."""

COVERED_HYBRIDS = {
    "tp2_dp2_to_tp2_dp2_ep4": "colocated_tp2_dp2_to_tp2_dp2_ep4",
    "ep2_etp2": "ep2_etp2_over_tp2_edp2",
    "ep8_over_dp8": "ep8_over_dp2_cp2_tp2",
    "cp2_encoder": "cp2_both",
    "cp2_language": "cp2_both",
    "cp4_with_2_kv_heads": "cp8_over_4_groups",
    "one_to_pp7": "tp2_pp3",
    "no_sequence_parallel_ep4": "ep2_etp2_over_tp2_edp2",  # and without_sp_ep4, which predicts further tokens
}
"""The same of the hybrid pair."""


def assert_equal(result: CaseResult) -> None:
    """Loss, norm, gradients and updates are equal."""
    assert result.holds, str(result.first)


@pytest.mark.parametrize("name", often_unless(LAYOUTS, COVERED))
def test_pair_equals_one_process(pool: Pool, name: str) -> None:
    assert_equal(pool.run(verify_task, named_config(name)))


@pytest.mark.parametrize("name", often_unless(HYBRIDS, COVERED_HYBRIDS))
def test_hybrid_equals_one_process(pool: Pool, name: str) -> None:
    result: CaseResult = pool.run(verify_task, hybrid_config(name))
    assert_equal(result)
    assert not result.is_tied


@pytest.mark.parametrize(
    ("layout", "world"),
    [({"ranks": [0]}, 1), ({"ranks": [0, 1, 2]}, 3), ({"ranks": [0, 1, 2, 3], "tp": 2, "pp": 2}, 4)],
    ids=["1", "dp3", "tp2_pp2"],
)
def test_language_only_equals_one_process(pool: Pool, layout: dict[str, Any], world: int) -> None:
    assert_equal(pool.run(verify_task, language_only(layout, world)))


def test_clipping_is_active_in_the_named_layouts(pool: Pool) -> None:
    config = named_config("dp2_to_tp2")
    norm, clip = pool.run(_norm_task, config), config.training.clip_norm
    assert clip is not None
    assert norm > 10 * clip


def test_a_scaled_gradient_on_one_rank_is_noticed(pool: Pool) -> None:
    result: CaseResult = pool.run(_scaled_gradient_task, named_config("dp2_to_tp2"))
    assert not result.holds
    assert {d.kind for d in result.differences if d.value > result.tolerance} >= {"norm", "gradient"}


def _norm_task(member: Member, config: Config) -> float | None:
    norms: list[float] = []
    train = case._train

    def note(*arguments: Any) -> Any:
        seen, batches = train(*arguments)
        norms.extend(observation.norm for observation in seen)
        return seen, batches

    case._train = note  # type: ignore[assignment]
    try:
        result = verify_task(member, config)
    finally:
        case._train = train
    return None if result is None else min(norms)


def _scaled_gradient_task(member: Member, config: Config) -> CaseResult | None:
    """Run a case in which rank 0 gets 1.001 times its gradients between the reduce and the step action."""
    square_sum = Engine._step

    def scaled(engine: Engine) -> None:
        if member.world.rank == 0:
            for parameter in engine.parameters:
                parameter.gradient.mul_(1.001)
        square_sum(engine)

    with patch.object(Engine, "_step", scaled):
        return verify_task(member, config)
