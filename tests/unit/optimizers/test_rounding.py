"""Stochastic rounding to bfloat16."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.optimizers.adamw.rounding import key_of, places_of, random_bits, rounded
from counterpoint.optimizers.pieces import Piece
from counterpoint.optimizers.shard import Shard

KEY = key_of("layers.0.mlp.up.weight")


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], Piece]:
    """A shape and a box in it: up to three dims that are all cut, or four of which two are."""
    whole = tuple(draw(st.lists(st.integers(1, 7), max_size=4)))
    cut = draw(st.sets(st.integers(0, 3), max_size=2)) if len(whole) == 4 else set(range(3))
    spans = []
    for dim, extent in enumerate(whole):
        start = draw(st.integers(0, extent - 1)) if dim in cut else 0
        spans.append((start, draw(st.integers(1, extent - start)) if dim in cut else extent))
    return whole, Piece(tuple(start for start, _n in spans), tuple(n for _start, n in spans))


@given(boxes())
def test_a_piece_has_the_bits_of_its_place_in_the_whole(box: tuple[tuple[int, ...], Piece]) -> None:
    whole, piece = box
    all_bits = _bits(whole, Piece((0,) * len(whole), whole)).view(whole)
    inside = tuple(slice(start, start + n) for start, n in zip(piece.offset, piece.shape, strict=True))
    assert torch.equal(_bits(whole, piece).view(piece.shape), all_bits[inside])


def test_places_beyond_two_to_the_32_have_bits_of_their_own() -> None:
    whole = (2**18, 2**16)
    near, far = (_bits(whole, Piece((row, 0), (1, 64))) for row in (1, 2**16 + 1))
    assert not torch.equal(near, far)


def test_bits_are_spread_and_differ_by_step_and_name() -> None:
    place = Piece((0,), (2**16,))
    bits, later = _bits((2**16,), place), _bits((2**16,), place, step=2)
    others = random_bits(places_of(_shard((2**16,), place)), key_of("norm.weight"), 1)
    for half in (bits & 0xFFFF, bits >> 16):
        # Of as many throws as sides, 1 - 1/e of the sides fall.
        assert len(half.unique()) == pytest.approx((1 - 1 / math.e) * 2**16, rel=0.02)
    for other in (later, others, bits >> 16):
        pairs = torch.stack((bits & 0xFFFF, other & 0xFFFF)).double()
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.02


def test_a_number_becomes_a_neighbour_with_the_probability_that_keeps_the_mean() -> None:
    for exact in (1.001, -3.14159, 1e-30, 3e30):
        every = rounded(torch.full((2**16,), exact, dtype=torch.float64), torch.arange(2**16)).double()
        below, above = sorted(every.unique().tolist())
        assert below < exact < above
        assert torch.nextafter(torch.tensor(below).bfloat16(), torch.tensor(math.inf).bfloat16()) == above
        assert float(every.mean()) == pytest.approx(exact, rel=1e-7)


def test_numbers_of_bfloat16_stay() -> None:
    exact = torch.tensor([0.0, -0.0, 1.0, -1.5, 2.0**-126, 2.0**100])
    assert torch.equal(rounded(exact, torch.full((6,), 2**32 - 1)).float(), exact)


def test_a_slow_mean_falls_where_the_nearest_number_would_not() -> None:
    mean, nearest = (torch.ones(4096, dtype=torch.bfloat16) for _ in range(2))
    place = Piece((0,), (4096,))
    for step in range(1, 1001):
        mean = rounded(mean.float() * 0.999, _bits((4096,), place, step))
        nearest = (nearest.float() * 0.999).bfloat16()
    assert float(mean.float().mean()) == pytest.approx(0.999**1000, rel=0.01)
    assert torch.equal(nearest, torch.ones_like(nearest))


def _shard(whole: tuple[int, ...], piece: Piece) -> Shard:
    return Shard("layers.0.mlp.up.weight", whole, piece, torch.empty(piece.shape))


def _bits(whole: tuple[int, ...], piece: Piece, step: int = 1) -> torch.Tensor:
    return random_bits(places_of(_shard(whole, piece)), KEY, step)
