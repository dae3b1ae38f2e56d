"""A layer of a kind that nothing here knows is cut by what its seams say."""

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from counterpoint.errors import PlacementError
from counterpoint.models.seams import Mix
from counterpoint.models.segments import Segments
from counterpoint.parallelize.context import ContextMix, apply_context_parallel
from counterpoint.parallelize.exchange import RowExchange, TensorGroup
from counterpoint.parallelize.products import GatheredProducts
from counterpoint.parallelize.recompute import apply_recompute
from counterpoint.parallelize.tensor import apply_tensor_parallel
from tests.unit.models.layer_from_elsewhere import DIM, GROUPS, HEADS, RULES, GatedSums, meta


def ranks(size: int) -> TensorGroup:
    """A group that is never used."""
    return TensorGroup(dist.ProcessGroup(HashStore(), 0, size), 0, size)


def test_heads_are_divided_by_tp_and_then_traded_over_cp() -> None:
    chain = meta()
    shardings = apply_tensor_parallel(chain, ranks(2), True, RULES)
    layer = chain.get_submodule("layers.1")
    assert shardings["layers.1.values.weight"].dim == 0
    assert layer.get_parameter("values.weight").shape[0] == HEADS * DIM // 2
    assert isinstance(layer.get_submodule("enter"), GatheredProducts)
    assert isinstance(layer.get_submodule("all_channels"), RowExchange)
    mix = layer.get_submodule("mix")
    assert isinstance(mix, Mix)
    assert mix.counts == {"heads": 3, "groups": 1}
    apply_context_parallel(chain, ranks(3))
    assert isinstance(layer.get_submodule("mix"), ContextMix)


def test_groups_that_tp_does_not_divide_are_refused() -> None:
    with pytest.raises(PlacementError, match=r"layers\.0 has 2 groups, expected a multiple of tp \(3\); change groups"):
        apply_tensor_parallel(meta(), ranks(3), True, RULES)


def test_heads_that_cp_does_not_divide_are_refused() -> None:
    with pytest.raises(PlacementError, match=r"layers\.0 has 6 heads on each .* a multiple of cp \(4\)"):
        apply_context_parallel(meta(), ranks(4))


@pytest.mark.parametrize(("kind", "is_meant"), [("sums", True), ("*", False)])
def test_its_kind_says_whether_it_is_recomputed(kind: str, is_meant: bool) -> None:
    chain = meta()
    apply_recompute(chain, {kind})
    assert ("forward" in vars(chain.get_submodule("layers.0"))) is is_meant


def test_rows_of_documents_that_are_whole_on_a_rank_are_not_traded() -> None:
    """Whatever else the lane holds; a group that is never used fails at the first exchange."""
    own = Segments.build([2, 1], 3)
    segments = Segments.build([2, 1, 3], 6, own=own)
    mix = GatedSums(heads=HEADS, groups=GROUPS)
    generator = torch.Generator().manual_seed(0)
    sizes = ((3, HEADS, DIM), (3, GROUPS, DIM), (3, HEADS), (HEADS,))
    inputs = tuple(torch.randn(*size, generator=generator) for size in sizes)
    assert torch.equal(ContextMix(mix, ranks(2))(inputs, segments), mix(inputs, own))
