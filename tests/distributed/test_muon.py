"""Muon on ranks: copies stay equal to the last bit, and a run that resumes goes on to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from counterpoint.config.schema import Config
from counterpoint.setup.run import prepare_run
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import MUON, OPTIMIZER, STEPS, new_engine, resume_task, told_by_all, train
from tests.distributed.spare import is_spare
from tests.parity.layouts import hybrid_config, named_config, override


@pytest.mark.parametrize("precision", [pytest.param("float64", marks=pytest.mark.more), "bfloat16"])
def test_a_resumed_run_goes_on_to_the_last_bit(pool: Pool, tmp_path: Path, precision: str) -> None:
    config = override(hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4"), MUON | {"run.dir": str(tmp_path)})
    if precision == "bfloat16":
        dtypes = {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"}
        config = override(config, {"training.precision": dtypes})
    assert pool.run(resume_task, config, "momentum") == []


def test_copies_stay_equal(pool: Pool) -> None:
    every = {"modules.vision.optimizer": OPTIMIZER | {"adamw_for": []}, "modules.language.optimizer": OPTIMIZER}
    assert pool.run(_copies_task, override(named_config("replicate_x_shard"), every)) == []
    assert pool.run(_copies_task, override(named_config("tied_over_pp2"), every)) == []


def _copies_task(member: Member, config: Config) -> object:
    """Keys of blocks that two ranks hold with different bits."""
    if is_spare(member, config):
        return None
    plan = prepare_run(config).plan
    groups = member.groups(plan)
    engine = new_engine(member, config)
    train(config, engine, 0, STEPS)
    engine.close()
    told = told_by_all(groups, [(p.key, p.block.offset, p.block.shape, p.value.clone()) for p in engine.parameters])
    if member.world.rank != plan.placement.active[0]:
        return None
    seen: dict[Any, torch.Tensor] = {}
    copies, wrong = 0, []
    for key, offset, shape, value in (one for each in told for one in each):
        known = seen.setdefault((key, offset, shape), value)
        copies += known is not value
        wrong += [key] if not torch.equal(known, value) else []
    assert copies
    return wrong
