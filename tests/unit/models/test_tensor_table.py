"""The table of tensor parallelism: every parameter has a role, and what cannot be cut is refused."""

import re

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from counterpoint.errors import PlacementError
from counterpoint.families import rules_of
from counterpoint.families.parts import parts_of
from counterpoint.kinds.family import Model
from counterpoint.kinds.rules import TensorRule
from counterpoint.models.chain import Chain, build_chain
from counterpoint.parallelize.blocks import Sharding
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.parallelize.groups import groups_read
from counterpoint.parallelize.tensor import apply_tensor_parallel
from tests.unit.models.model_samples import DECODERS, GRAPHS, MODELS, VITS, changed


@pytest.fixture
def pair() -> TensorGroup:
    """A group that is never used: cutting a model is local work."""
    return TensorGroup(dist.ProcessGroup(HashStore(), 0, 2), 1, 2)


def meta(model: Model) -> Chain:
    with torch.device("meta"):
        return build_chain(parts_of(model))


@pytest.mark.parametrize("sequence_parallel", [True, False])
@pytest.mark.parametrize("model", (MODELS | GRAPHS).values(), ids=MODELS | GRAPHS)
def test_every_parameter_is_cut_as_its_sharding_says(model: Model, sequence_parallel: bool, pair: TensorGroup) -> None:
    whole, chain = meta(model), meta(model)
    shardings = apply_tensor_parallel(chain, pair, sequence_parallel, rules_of(model.section))
    local = dict(chain.named_parameters())
    assert shardings.keys() == local.keys()
    for name, parameter in whole.named_parameters():
        assert shardings[name].global_shape == tuple(parameter.shape)
        assert shardings[name].local_shape(2) == tuple(local[name].shape)
        assert local[name].is_meta
    expected = "partial" if sequence_parallel else "duplicate"
    on_rows = [name for name in shardings if re.fullmatch(r"norm\.weight|layers\.0\.(attention_)?norm\.weight", name)]
    assert on_rows
    assert {shardings[name].reduction for name in on_rows} == {expected}
    if sequence_parallel:
        # Whatever is not cut acts on a share of the rows.
        assert {name for name, sharding in shardings.items() if sharding.reduction == "duplicate"} == set()


def test_what_acts_on_a_share_of_rows_or_heads_is_partial_in_both_modes(pair: TensorGroup) -> None:
    text, image = (
        apply_tensor_parallel(meta(model), pair, False, rules_of(model.section))
        for model in (DECODERS["grouped"], VITS["merging"])
    )
    assert text["layers.0.attention.q_norm.weight"].reduction == "partial"
    assert image["embed.patch.bias"].reduction == image["embed.positions.weight"].reduction == "partial"
    assert image["layers.0.attention.o.bias"].reduction == "duplicate"


@pytest.mark.parametrize(
    ("kv_heads", "size", "pieces"), [(1, 2, 1), (2, 4, 2), (4, 4, None), (4, 8, 4), (2, 8, 2), (8, 4, None)]
)
def test_ranks_hold_copies_of_fewer_key_value_heads(kv_heads: int, size: int, pieces: int | None) -> None:
    model = changed(DECODERS["grouped"], heads=8, kv_heads=kv_heads, ffn=16, hidden=32)
    chain = meta(model)
    group = TensorGroup(dist.ProcessGroup(HashStore(), 0, size), size - 1, size)
    shardings = apply_tensor_parallel(chain, group, False, rules_of(model.section))
    for name in ("k.weight", "v.weight"):
        sharding = shardings[f"layers.0.attention.{name}"]
        assert sharding.pieces == pieces
        assert sharding.reduction == ("shard" if pieces is None else "partial")
        local = chain.get_parameter(f"layers.0.attention.{name}")
        assert local.shape[0] == 4 * max(1, kv_heads // size)
    assert shardings["layers.0.attention.q.weight"] == Sharding((32, 32), "shard", 0)


@pytest.mark.parametrize(("heads", "kv_heads", "holders"), [(6, 2, 2), (12, 3, 4), (12, 6, 2), (24, 6, 4), (4, 1, 4)])
def test_each_share_of_heads_reads_its_own_groups(heads: int, kv_heads: int, holders: int) -> None:
    """As if each head had its own copy of its group."""
    of_heads = torch.arange(kv_heads).repeat_interleave(heads // kv_heads).chunk(holders)
    for share, own in enumerate(of_heads):
        found = groups_read(share, holders, heads, kv_heads, torch.device("cpu"))
        repeats = len(own) // len(found)
        assert torch.equal(found.repeat_interleave(repeats), own)


def test_one_rank_changes_nothing() -> None:
    model = DECODERS["tied"]
    shardings = apply_tensor_parallel(meta(model), None, True, rules_of(model.section))
    assert shardings["embed.weight"] == Sharding((11, 8), "duplicate")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, r"layers\.0\.attention has 3 heads, expected a multiple of tp \(2\)"),
        ({"ffn": 13}, r"layers\.1\.mlp\.gate\.weight has 13 outputs, expected a multiple of tp \(2\)"),
    ],
)
def test_what_does_not_divide_is_refused(change: dict[str, int], message: str, pair: TensorGroup) -> None:
    model = changed(DECODERS["grouped"], **change)
    with pytest.raises(PlacementError, match=message):
        apply_tensor_parallel(meta(model), pair, True, rules_of(model.section))


def test_a_parameter_without_a_rule_is_refused(pair: TensorGroup) -> None:
    rules = (TensorRule("embed.*", "words"),)
    with pytest.raises(PlacementError, match="has no rule"):
        apply_tensor_parallel(meta(DECODERS["tied"]), pair, True, rules)
