"""What an engine's ranks hold together, and whether it is what is expected."""

from collections.abc import Mapping

import torch
from torch import Tensor

from counterpoint.config.schema import Config
from counterpoint.setup.rank import settings_of
from counterpoint.setup.run import prepare_run
from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member


def demand_equal(loaded: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Fail unless names and every value are the same."""
    assert loaded.keys() == expected.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(loaded[name], tensor)] == []


def tensors_of(tensors: Mapping[str, Tensor], module: str) -> dict[str, Tensor]:
    """The tensors of one module, by the names that they have in it."""
    return {key.removeprefix(f"{module}."): t for key, t in tensors.items() if key.startswith(f"{module}.")}


def engine_of(member: Member, config: Config) -> Engine:
    """What trains a config on this rank of a pool."""
    plan, models, _corpus = prepare_run(config)
    return Engine(settings_of(config), plan, models, member.groups(plan), observers=(member.observe,))


def gathered(member: Member, engine: Engine) -> dict[str, Tensor] | None:
    """Whole tensors of all modules on rank 0; every rank that holds an element must hold the same value."""
    mine = [(one.key, one.block, one.value[one.block.local_slices].clone()) for one in engine.held if one.block.numel]
    tree = member.groups(engine.plan).control
    assert tree is not None
    gathered = tree.gather(mine)
    engine.close()
    if gathered is None:
        return None
    whole: dict[str, Tensor] = {}
    for key, block, value in (one for held in gathered for one in held):
        target = whole.setdefault(key, torch.full(block.global_shape, torch.nan, dtype=value.dtype))
        place = target[block.global_slices]
        assert bool((place.isnan() | (place == value)).all()), key
        place.copy_(value)
    return whole
