"""A dry run of a rank counts the bytes that the rank has in a training, in layouts that keep most kinds of tensors."""

from typing import Any

import pytest

from counterpoint.config.load import load_config
from counterpoint.config.schema import Config
from counterpoint.data.feed.reader import Reader
from counterpoint.parallelize.fsdp import dtype_of
from counterpoint.setup.dry_run import dry_run
from counterpoint.setup.plan import plan_of
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import build_models, prepare_run
from counterpoint.train.engine import Engine
from counterpoint.train.parameters import LocalParameter
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from tests.parity.layouts import HYBRID, TINY, override

MIXED = {"training.precision": {"parameters": "float32", "compute": "bfloat16", "reduce": "float32"}}
FOUR = {"world.size": 4}
EXPERTS = {
    **FOUR, **MIXED,
    "modules.vision.layout": {"ranks": [0, 1, 2, 3]},
    "modules.language.layout": {"ranks": [0, 1, 2, 3], "tp": 2, "reshard": False, "expert": {"ep": 4}},
}  # fmt: skip

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "dense": (TINY, {**FOUR, "modules.vision.layout": {"ranks": [0, 1, 2]}, "modules.language.layout": {"ranks": [3]}}),
    "experts": (HYBRID, EXPERTS),
    "experts of one microbatch": (HYBRID, {**EXPERTS, "schedule.microbatches": 1}),
    "tied": (
        TINY,
        {
            **FOUR, **MIXED,
            "modules.vision.layout": {"ranks": [0, 1]},
            "modules.language.layout": {"ranks": [2, 3], "pp": 2},
            "modules.language.model.tied": True,
        },
    ),
    "frozen": (
        TINY,
        {
            **FOUR,
            "modules.vision.layout": {"ranks": [0, 1, 2, 3]},
            "modules.vision.train": ["projector.*"],
            "modules.language.layout": {"ranks": [0, 1, 2, 3], "tp": 2, "dp_replicate": 2},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_dry_run_counts_what_a_rank_has(pool: Pool, name: str) -> None:
    config = override(load_config(CASES[name][0]), CASES[name][1])
    real = pool.run(_bytes_task, config)
    models = build_models(config)
    plan = plan_of(config, models)
    assert len(real) == len(plan.placement.active) == 4
    for rank, (stages, groups) in enumerate(real):
        found = dry_run(config, plan, models, rank)
        counted = [(s.stage, s.parameters, s.copies, s.buffers, s.gradients, s.optimizer) for s in found.stages]
        assert counted == stages
        assert (found.created, sorted(group.ranks for group in found.groups)) == groups
        assert found.program == tuple(map(str, plan.schedule.programs[rank]))
    kinds = [
        sum(sizes) for sizes in zip(*(counts for stages, _groups in real for _stage, *counts in stages), strict=True)
    ]
    has_copies = name.startswith("experts")
    assert [size > 0 for size in kinds] == [True, has_copies, has_copies, True, True]


def _bytes_task(member: Member, config: Config) -> list[Any] | None:
    """What every rank has after a step: by stage its bytes, and its groups."""
    plan, models, corpus = prepare_run(config)
    groups = member.groups(plan)
    if groups.control is None:
        return None
    engine = Engine(settings_of(config), plan, models, groups, (member.observe,))
    gradients: dict[int, int] = {}

    def inspect(parameters: tuple[LocalParameter, ...]) -> None:
        gradients.update({id(one.parameter): one.gradient.nbytes for one in parameters})

    engine.inspect = inspect
    reader = Reader(plan, member.world.rank, corpus.sources, dtype_of(config.training.precision.compute))
    engine.train_step(reader.read(plan.batch(0, corpus.packs(0))))
    moments: dict[int, int] = {}
    for optimizer in engine.optimizers.values():
        for parameter, _name, moment in optimizer.moments():
            moments[id(parameter.parameter)] = moments.get(id(parameter.parameter), 0) + moment.nbytes
    stages = []
    for node, replica in engine.replicas.items():
        held = replica.parameters
        copies = [one.copy.values for one in held if one.copy is not None]
        stages.append((
            str(node), _size(one.value for one in held), _size(copies), _size(one.value for one in replica.buffers),
            sum(gradients.get(id(one.parameter), 0) for one in held),
            sum(moments.get(id(one.parameter), 0) for one in held),
        ))  # fmt: skip
    engine.close()
    trees = [group.size() for tree in (groups.control, groups.storage) if tree for _b, group in tree.groups.values()]
    sizes = sorted([*(group.size() for group in groups.named.values()), *trees, 1])
    return groups.control.gather((stages, (groups.created, sizes)))


def _size(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
