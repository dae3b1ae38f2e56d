"""AdamW with moments in bfloat16 equals one process that rounds its whole moments, wherever parameters are cut."""

from unittest.mock import patch

import pytest

from counterpoint.config.schema import Config
from counterpoint.optimizers.adamw import one_pass
from counterpoint.optimizers.adamw.rounding import Places, places_of
from counterpoint.optimizers.shard import Shard
from counterpoint.verify.case import CaseResult, verify_task
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import rounded
from tests.parity.layouts import hybrid_config, named_config


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(named_config("tied_over_pp3_tp2"), id="tied over pp, tp", marks=pytest.mark.more),
        pytest.param(named_config("replicate_x_shard"), id="replicas and shards", marks=pytest.mark.more),
        pytest.param(hybrid_config("ep2_etp2_over_tp2_edp2"), id="ep, etp, edp, tp"),
    ],
)
def test_rounded_moments_equal_those_of_one_process(pool: Pool, config: Config) -> None:
    result = pool.run(verify_task, rounded(config))
    assert result.holds, str(result.first)


def test_rounding_by_places_in_the_shard_is_noticed(pool: Pool) -> None:
    result: CaseResult = pool.run(_local_places_task, rounded(named_config("dp2_to_tp2")))
    assert result.first is not None
    assert result.first.kind == "update"
    assert "step 1" in result.first.where


def _local_places_task(member: Member, config: Config) -> CaseResult | None:
    """Run a case in which every rank rounds its shards as if they were whole parameters."""

    def local(shard: Shard) -> Places:
        return places_of(shard)._replace(base=0)

    with patch.object(one_pass, "places_of", local):
        return verify_task(member, config)
