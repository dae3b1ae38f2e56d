"""Muon over every way to cut a matrix equals Muon of whole matrices in one plain process."""

from typing import Any

import pytest

from counterpoint.config.schema import Config
from counterpoint.verify.case import verify_task
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import OPTIMIZER
from tests.parity.layouts import hybrid_config, named_config, override

EVERY_MATRIX = OPTIMIZER | {"adamw_for": [], "nesterov": False}
GROUPED = OPTIMIZER | {
    "groups": [{"match": "*.attention.*", "lr": 3e-3, "momentum": 0.5}, {"match": "*.mlp.*", "weight_decay": 0.0}]
}


def muon(config: Config, vision: dict[str, Any], language: dict[str, Any]) -> Config:
    """The config with these optimizers."""
    return override(config, {"modules.vision.optimizer": vision, "modules.language.optimizer": language})


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(muon(named_config("tied_over_pp3_tp2"), OPTIMIZER, EVERY_MATRIX), id="tied over pp, tp"),
        pytest.param(muon(named_config("replicate_x_shard"), EVERY_MATRIX, OPTIMIZER), id="replicas and shards"),
        pytest.param(
            muon(named_config("colocated_tp2_dp4_to_tp4_dp2_ragged"), GROUPED, EVERY_MATRIX),
            id="tp, shards, groups",
            marks=pytest.mark.more,
        ),
        pytest.param(muon(hybrid_config("ep2_etp2_over_tp2_edp2"), OPTIMIZER, OPTIMIZER), id="ep, etp, edp"),
        pytest.param(
            muon(hybrid_config("tp2_pp3"), GROUPED, EVERY_MATRIX),
            id="mamba and experts over pp",
            marks=pytest.mark.more,
        ),
    ],
)
def test_muon_equals_one_process(pool: Pool, config: Config) -> None:
    result = pool.run(verify_task, config)
    assert result.holds, str(result.first)
