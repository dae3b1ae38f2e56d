"""Blocks tile the global tensor, and each is filled with its own slice of the same values."""

import hashlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.kinds.rules import PLAIN
from counterpoint.parallelize.blocks import Block, Sharding, block_of
from counterpoint.parallelize.initialize import initialize_

SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def blocks(sharding: Sharding, tp: int, shards: int, name: str = "head.weight") -> list[list[Block]]:
    return [[block_of(name, sharding, t, tp, s, shards) for s in range(shards)] for t in range(tp)]


def filled(block: Block, shape: tuple[int, ...], seed: int = 5, module: str = "language") -> torch.Tensor:
    local = torch.full(shape, torch.nan, dtype=torch.float64)
    initialize_(local, block, seed, module, residual_sums=4, rules=PLAIN)
    return local


def whole_block(name: str, shape: tuple[int, ...]) -> Block:
    return block_of(name, Sharding(shape, "duplicate"), 0, 1, 0, 1)


@settings(deadline=None)
@given(shape=SHAPES, tp=st.integers(1, 4), shards=st.integers(1, 5), data=st.data())
def test_blocks_tile_the_global_tensor(shape: tuple[int, ...], tp: int, shards: int, data: st.DataObject) -> None:
    dim = data.draw(st.integers(0, len(shape) - 1))
    counts = torch.zeros(shape)
    for row in blocks(Sharding(shape, "shard", dim), tp, shards):
        for block in row:
            counts[block.global_slices] += 1
            assert block.numel == counts[block.global_slices].numel()
    assert torch.equal(counts, torch.ones(shape))


@settings(deadline=None)
@given(pieces=st.integers(1, 4), holders=st.integers(1, 3), rows=st.integers(1, 5), shards=st.integers(1, 4))
def test_ranks_of_fewer_pieces_hold_equal_blocks(pieces: int, holders: int, rows: int, shards: int) -> None:
    """Each piece is held by as many consecutive ranks, whose blocks are equal, and all pieces tile the tensor."""
    sharding, size = Sharding((pieces * rows, 3), "partial", 0, pieces), pieces * holders
    assert sharding.local_shape(size) == (rows, 3)
    counts = torch.zeros(pieces * rows, 3)
    for rank, row in enumerate(blocks(sharding, size, shards)):
        for shard, block in enumerate(row):
            counts[block.global_slices] += 1
            first = block_of("x", sharding, rank // holders * holders, size, shard, shards)
            assert (block.offset, block.shape, block.tensor_copies(size)) == (first.offset, first.shape, holders)
    assert counts.eq(holders).all()


@settings(deadline=None)
@given(rows=st.integers(1, 20), shards=st.integers(1, 6))
def test_data_parallel_pieces_are_those_of_torch_chunk(rows: int, shards: int) -> None:
    chunks = torch.arange(rows).chunk(shards)
    for rank, block in enumerate(blocks(Sharding((rows,), "duplicate"), 1, shards)[0]):
        expected = chunks[rank] if rank < len(chunks) else torch.arange(0)
        assert torch.equal(torch.arange(rows)[block.global_slices], expected)


@settings(deadline=None)
@given(shape=SHAPES, tp=st.integers(1, 3), shards=st.integers(1, 3), data=st.data())
def test_a_block_is_filled_with_its_slice_of_the_whole(
    shape: tuple[int, ...], tp: int, shards: int, data: st.DataObject
) -> None:
    sharding = Sharding(shape, "shard", data.draw(st.integers(0, len(shape) - 1)))
    whole = filled(whole_block("head.weight", shape), shape)
    for row in blocks(sharding, tp, shards):
        for block in row:
            local = filled(block, tuple(extent + 1 for extent in block.shape))
            assert torch.equal(local[block.local_slices], whole[block.global_slices])
            local[block.local_slices] = 0
            assert not local.any()


def test_values_beyond_one_slab_are_the_same_function_of_the_index() -> None:
    shape = (3 * 1024, 700)
    whole = filled(whole_block("head.weight", shape), shape)
    late = Block("head.weight", shape, (3000, 3), (5, 4), "duplicate")
    assert torch.equal(filled(late, (5, 4)), whole[late.global_slices])


def test_values_are_standard_normal_at_the_declared_spread() -> None:
    shape = (1000, 400)
    values = filled(whole_block("head.weight", shape), shape) / 0.02
    assert abs(values.mean().item()) < 0.01
    assert abs(values.std().item() - 1) < 0.01
    assert abs((values.abs() > 1.96).double().mean().item() - 0.05) < 0.003
    assert abs(torch.corrcoef(torch.stack((values[:, 0], values[:, 1])))[0, 1].item()) < 0.1
    assert values.unique().numel() > 0.7 * 0.3 * values.numel()


def test_seed_module_and_name_all_count() -> None:
    shape = (4, 4)
    base = filled(whole_block("head.weight", shape), shape)
    others = [
        filled(whole_block("head.weight", shape), shape, seed=0),
        filled(whole_block("head.weight", shape), shape, module="vision"),
        filled(whole_block("embed.weight", shape), shape),
    ]
    assert all(not torch.equal(base, other) for other in others)


def splitmix(state: int) -> int:
    """One output of splitmix64, in unbounded integers."""
    mixed = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    return mixed ^ (mixed >> 31)


@settings(deadline=None)
@given(seed=st.integers(0, 2**40), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_values_are_digit_sums_of_splitmix(seed: int, rows: int, columns: int) -> None:
    found = filled(whole_block("head.weight", (rows, columns)), (rows, columns), seed=seed).flatten().tolist()
    digest = hashlib.blake2b(f"{seed}/language.head.weight".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "little")
    for element, value in enumerate(found):
        words = [splitmix((key + (2 * element + draw + 1) * 0x9E3779B97F4A7C15) % 2**64) for draw in (0, 1)]
        total = sum(word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48))
        normal = (total - 8 * 0xFFFF / 2) / math.sqrt(8 * (2**32 - 1) / 12)
        assert value == pytest.approx(0.02 * normal, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "spread"),
    [
        ("layers.3.attention.o.weight", 0.01),
        ("layers.3.mlp.down.weight", 0.01),
        ("projector.mlp.down.weight", 0.02),
        ("layers.3.attention.q.weight", 0.02),
        ("embed.positions.weight", 0.02),
    ],
)
def test_the_spread_of_a_matrix_follows_its_name(name: str, spread: float) -> None:
    values = filled(whole_block(name, (300, 100)), (300, 100))
    assert values.std().item() == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize(
    ("name", "value"),
    [("norm.weight", 1.0), ("layers.0.attention_norm.weight", 1.0), ("layers.0.attention.q_norm.weight", 1.0),
     ("norm.bias", 0.0), ("layers.0.attention.q.bias", 0.0), ("embed.patch.bias", 0.0)],
)  # fmt: skip
def test_norms_begin_at_one_and_biases_at_zero(name: str, value: float) -> None:
    assert filled(whole_block(name, (7,)), (7,)).eq(value).all()


def test_a_padded_vocabulary_has_rows_of_zeros_beyond_its_block() -> None:
    sharding = Sharding((7, 2), "shard", 0)
    assert sharding.local_shape(3) == (3, 2)
    last = block_of("head.weight", sharding, 2, 3, 0, 1)
    assert (last.offset, last.shape) == ((6, 0), (1, 2))
    assert filled(last, (3, 2))[1:].abs().sum().item() == 0
    beyond = block_of("head.weight", Sharding((4, 2), "shard", 0), 2, 3, 0, 1)
    assert beyond.numel == 0
    assert math.prod(beyond.shape) == 0


@pytest.mark.parametrize(("reduction", "copies"), [("shard", 1), ("partial", 4), ("duplicate", 4)])
def test_copies_over_tensor_parallel_ranks(reduction: str, copies: int) -> None:
    assert Block("x", (2,), (0,), (2,), reduction).tensor_copies(4) == copies  # type: ignore[arg-type]
