"""Muon on ranks: copies stay equal to the last bit, and a run that resumes goes on to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.execute.groups import Groups
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.state.saving import model_tensors, optimizer_tensors
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.distributed.optimizers import MUON, OPTIMIZER
from tests.distributed.spare import is_spare
from tests.parity.layouts import hybrid_config, named_config, override

SAVED_AFTER, STEPS = 2, 4


@pytest.mark.parametrize("precision", [pytest.param("float64", marks=pytest.mark.more), "bfloat16"])
def test_a_resumed_run_goes_on_to_the_last_bit(pool: Pool, tmp_path: Path, precision: str) -> None:
    config = override(hybrid_config("colocated_tp2_dp2_to_tp2_dp2_ep4"), MUON | {"run.dir": str(tmp_path)})
    if precision == "bfloat16":
        dtypes = {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"}
        config = override(config, {"training.precision": dtypes})
    assert pool.run(_resume_task, config) == []


def test_copies_stay_equal(pool: Pool) -> None:
    every = {"modules.vision.optimizer": OPTIMIZER | {"adamw_for": []}, "modules.language.optimizer": OPTIMIZER}
    assert pool.run(_copies_task, override(named_config("replicate_x_shard"), every)) == []
    assert pool.run(_copies_task, override(named_config("tied_over_pp2"), every)) == []


def _engine(member: Member, config: Config) -> Engine:
    plan, models, _corpus = prepare_run(config)
    return Engine(settings_of(config), plan, models, member.groups(plan), (member.observe,))


def _train(config: Config, engine: Engine, first: int, stop: int) -> None:
    corpus = prepare_run(config).corpus
    reader = Reader(engine.plan, engine._rank, corpus.sources, dtype_of(engine.plan.dtype))
    for step in range(first, stop):
        engine.train_step(reader.read(engine.plan.batch(step, corpus.packs(step))))


def _state(engine: Engine) -> dict[str, torch.Tensor]:
    tensors = {**model_tensors(engine), **optimizer_tensors(engine)}
    return {key: stored.tensor.clone() for key, stored in tensors.items()}


def _all(groups: Groups, mine: Any) -> list[Any]:
    told: list[Any] = [None] * dist.get_world_size(groups.control)
    dist.all_gather_object(told, mine, group=groups.control)
    return told


def _resume_task(member: Member, config: Config) -> object:
    """Keys of what differs between a run that went on and one that resumed, of all ranks."""
    if is_spare(member, config):
        return None
    plan, models, _corpus = prepare_run(config)
    groups = member.groups(plan)
    engine, saver = _engine(member, config), saver_of(config, models, groups)
    _train(config, engine, 0, SAVED_AFTER)
    saver.save(engine, SAVED_AFTER, ())
    saver.finish()
    _train(config, engine, SAVED_AFTER, STEPS)
    engine.close()
    other = _engine(member, config)
    saver_of(config, models, groups).resume(other)
    _train(config, other, SAVED_AFTER, STEPS)
    other.close()
    straight, resumed = _state(engine), _state(other)
    assert any(key.endswith("/momentum") and tensor.any() for key, tensor in straight.items())
    wrong = [key for key in straight if not torch.equal(straight[key], resumed[key])]
    told = _all(groups, wrong)
    return [key for keys in told for key in keys] if member.world.rank == plan.placement.active[0] else None


def _copies_task(member: Member, config: Config) -> object:
    """Keys of blocks that two ranks hold with different bits."""
    if is_spare(member, config):
        return None
    plan = prepare_run(config).plan
    groups = member.groups(plan)
    engine = _engine(member, config)
    _train(config, engine, 0, STEPS)
    engine.close()
    told = _all(groups, [(p.key, p.block.offset, p.block.shape, p.value.clone()) for p in engine.parameters])
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
