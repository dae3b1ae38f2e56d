"""The expert view's cuts."""

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from counterpoint.errors import PlacementError
from counterpoint.families.parts import parts_of
from counterpoint.models.chain import Chain, build_chain
from counterpoint.parallelize.blocks import Block, Cut, cut_block
from counterpoint.parallelize.expert import ExpertRank, apply_expert_parallel
from counterpoint.parallelize.fsdp import expert_shard_dim
from tests.unit.models.model_samples import HYBRID


def meta() -> Chain:
    with torch.device("meta"):
        return build_chain(parts_of(HYBRID))


def test_every_expert_lies_on_one_ep_rank_and_its_width_on_all_etp_ranks() -> None:
    group = dist.ProcessGroup(HashStore(), 0, 4)
    counts: dict[str, torch.Tensor] = {}
    for ep_rank in range(2):
        for etp_rank in range(2):
            chain = meta()
            shardings = apply_expert_parallel(chain, ExpertRank(group, ep_rank, 2, etp_rank, 2), None)
            local = {name: tuple(p.shape) for name, p in chain.named_parameters()}
            for name, sharding in shardings.items():
                assert local[name] == sharding.local_shape
                for edp_rank in range(3):
                    dim = expert_shard_dim(sharding.local_shape, 3)
                    cuts = (*sharding.cuts, Cut(dim, edp_rank, 3))
                    block: Block = cut_block(name, sharding.global_shape, cuts, "shard")
                    seen = counts.setdefault(name, torch.zeros(sharding.global_shape))
                    seen[block.global_slices] += 1
    assert set(counts) == {f"layers.{n}.moe.experts.{leaf}" for n in (1, 3) for leaf in ("up", "down")}
    assert all(torch.equal(seen, torch.ones_like(seen)) for seen in counts.values())


@pytest.mark.parametrize(("ep", "etp", "words"), [(3, 1, "4 experts"), (1, 4, "6 columns")])
def test_what_does_not_divide_is_refused(ep: int, etp: int, words: str) -> None:
    with pytest.raises(PlacementError, match=words):
        apply_expert_parallel(meta(), ExpertRank(dist.ProcessGroup(HashStore(), 0, ep * etp), 0, ep, 0, etp), None)


@pytest.mark.parametrize(("shape", "size", "dim"), [((8, 4, 6), 4, 0), ((3, 4, 6), 2, 1), ((3, 5, 7), 2, 0)])
def test_few_experts_are_cut_along_a_dim_that_divides(shape: tuple[int, ...], size: int, dim: int) -> None:
    assert expert_shard_dim(shape, size) == dim
