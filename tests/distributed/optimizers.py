"""What several tests ask of optimizers on ranks."""

from collections.abc import Iterator
from typing import Any

import torch

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.execute.groups import Groups
from counterpoint.optimizers.adamw.update import AdamWUpdate
from counterpoint.optimizers.muon.update import MuonUpdate
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.rank import saver_of, settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.optimizer import ModuleOptimizer
from counterpoint.train.state.saving import model_tensors, optimizer_tensors
from counterpoint.verify.member import Member
from tests.distributed.spare import is_spare
from tests.parity.layouts import override

OPTIMIZER = {"kind": "muon", "lr": 1e-3, "weight_decay": 0.1, "eps": 1e-3}
MUON = {"modules.vision.optimizer": OPTIMIZER, "modules.language.optimizer": OPTIMIZER}
"""Overrides of a pair; eps is that of `verify`."""

SAVED_AFTER, STEPS = 2, 4


def rounded(config: Config) -> Config:
    """A config whose modules keep the moments of AdamW in bfloat16."""
    return override(config, {f"modules.{name}.optimizer.moments": "bfloat16" for name in config.modules})


def new_engine(member: Member, config: Config) -> Engine:
    """The engine of a config with its initial values."""
    plan, models, _corpus = prepare_run(config)
    return Engine(settings_of(config), plan, models, member.groups(plan), (member.observe,))


def train(config: Config, engine: Engine, first: int, stop: int) -> None:
    """Train from step `first` to before `stop`."""
    corpus = prepare_run(config).corpus
    reader = Reader(engine.plan, engine._rank, corpus.sources, dtype_of(engine.plan.dtype))
    for step in range(first, stop):
        engine.train_step(reader.read(engine.plan.batch(step, corpus.packs(step))))


def state_of(engine: Engine) -> dict[str, torch.Tensor]:
    """A copy of this rank's blocks of parameters and moments."""
    tensors = {**model_tensors(engine), **optimizer_tensors(engine)}
    return {key: stored.tensor.clone() for key, stored in tensors.items()}


def told_by_all(groups: Groups, mine: Any) -> list[Any]:
    """What every active rank says."""
    assert groups.control is not None
    return groups.control.merged([mine], lambda several: [one for some in several for one in some])


def resume_task(member: Member, config: Config, moment: str) -> object:
    """Keys of what differs between a run that went on and one that resumed, of all ranks; the run keeps `moment`."""
    if is_spare(member, config):
        return None
    plan, models, _corpus = prepare_run(config)
    groups = member.groups(plan)
    engine, saver = new_engine(member, config), saver_of(config, models, groups)
    train(config, engine, 0, SAVED_AFTER)
    saver.save(engine, SAVED_AFTER, ())
    saver.finish()
    train(config, engine, SAVED_AFTER, STEPS)
    engine.close()
    other = new_engine(member, config)
    saver_of(config, models, groups).resume(other)
    train(config, other, SAVED_AFTER, STEPS)
    other.close()
    straight, resumed = state_of(engine), state_of(other)
    assert any(key.endswith(f"/{moment}") and tensor.any() for key, tensor in straight.items())
    wrong = [key for key in straight if not torch.equal(straight[key], resumed[key])]
    told = told_by_all(groups, wrong)
    return [key for keys in told for key in keys] if member.world.rank == plan.placement.active[0] else None


def adamw_states(optimizer: ModuleOptimizer) -> Iterator[dict[str, Any]]:
    """What torch's AdamW keeps of each shard that it updates."""
    for group in optimizer._groups:
        update = group.update._others if isinstance(group.update, MuonUpdate) else group.update
        if isinstance(update, AdamWUpdate):
            yield from update._adamw.state.values()
