"""What the benchmark of predicted steps measures on ranks of a pool."""

import gc
from typing import Any

import pytest
import torch.distributed as dist

from counterpoint.train.engine import Engine
from counterpoint.verify.member import Member
from counterpoint.verify.pool import Pool
from prediction.layouts import TINY, config_of
from prediction.measured import Effort, measure


@pytest.mark.more
def test_a_measured_layout_is_gone_before_the_next_one_is_built() -> None:
    """Else its tensors count as there before, and what the next one holds is short by them."""
    layout = TINY[0]
    config = config_of(layout, ["run.device=cpu", "training.compile=false"])
    with Pool(layout.ranks) as own:
        found = own.run(measure, {layout.name: config}, Effort(rounds=1, steps=1, warmup=1, batches=1))
        assert all(len(rank.blocks) == 1 for rank in found[layout.name])
        assert own.run(_engines_alive) == [0, 0]


def _engines_alive(member: Member) -> list[int] | None:
    alive: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(alive, sum(isinstance(one, Engine) for one in gc.get_objects()))
    return alive if member.world.rank == 0 else None
