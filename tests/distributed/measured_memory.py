"""The bytes of the tensors that a rank really has over a step."""

from typing import NamedTuple

from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.plan.action import Action
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member
from tests.distributed.spare import is_spare
from tests.storages import Storages


class Measured(NamedTuple):
    """Bytes that stay between two steps, the most that a step ever has, and the action in which it has that."""

    held: int
    peak: int
    at: str


def measure(member: Member, config: Config) -> list[Measured] | None:
    """What every rank of a config has in the second step, on rank 0; called by all ranks of the pool."""
    if is_spare(member, config):
        return None
    plan, models, corpus = prepare_run(config)
    groups = member.groups(plan)
    compute = dtype_of(config.training.precision.compute)
    reader = Reader(plan, member.world.rank, corpus.sources, compute)
    inputs = [reader.read(plan.batch(step, corpus.packs(step))) for step in range(2)]
    storages = Storages()
    with storages:

        def note(action: Action) -> None:
            member.observe(action)
            storages.action = str(action)

        engine = Engine(settings_of(config), plan, models, groups, observers=(note,))
        engine.train_step(inputs[0])
        held = storages.bytes()
        storages.restart()
        engine.train_step(inputs[1])
    engine.close()
    assert groups.control is not None
    return groups.control.gather(Measured(held, storages.peak, storages.at))
