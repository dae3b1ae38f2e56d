"""A window of attention leaves a row the last rows of its own document, however documents lie."""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.sublayer import attend
from counterpoint.models.segments import Segments

WINDOW = 5
LENGTHS = st.lists(st.sampled_from([0, 1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 17]), max_size=6)
EXACT = 1e-12


def drawn(rows: int, kv_heads: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of so many rows."""
    generator = torch.Generator().manual_seed(rows)
    shapes = [(rows, heads, 3) for heads in (4, kv_heads, kv_heads)]
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes)
    return q, k, v


def naive(q: Tensor, k: Tensor, v: Tensor, lengths: list[int], window: int, scale: float) -> Tensor:
    """Row by row and key by key; what belongs to no document is zeros."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (rows.repeat_interleave(repeats, dim=1) for rows in (k, v))
    out = torch.zeros_like(q)
    for start, end in pairwise(accumulate(lengths, initial=0)):
        for row in range(start, end):
            seen = slice(max(start, row - window + 1), row + 1)
            weights = (torch.einsum("hd,khd->hk", q[row], k[seen]) * scale).softmax(dim=1)
            out[row] = torch.einsum("hk,khd->hd", weights, v[seen])
    return out


def gradients(out: Tensor, rows: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Of something that depends on every value, zeros where nothing was seen."""
    return torch.autograd.grad(out.sin().sum() + 0.0 * rows[0].sum(), rows, materialize_grads=True)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.one_of(LENGTHS, st.integers(1, 12).map(lambda n: [n] * 3)),
    padding=st.integers(0, 4),
    window=st.integers(1, 18),
    kv_heads=st.sampled_from([1, 2, 4]),
)
def test_rows_see_the_window_that_ends_at_their_own(
    lengths: list[int], padding: int, window: int, kv_heads: int
) -> None:
    segments = Segments.build(lengths, sum(lengths) + padding)
    given_rows, other = (drawn(segments.rows, kv_heads) for _side in range(2))
    found = attend(*given_rows, segments, Scores(causal=True, window=window, scale=0.4))[: sum(lengths)]
    expected = naive(*other, lengths, window, scale=0.4)[: sum(lengths)]
    assert torch.allclose(found, expected, rtol=0, atol=EXACT)
    for ours, theirs in zip(gradients(found, given_rows), gradients(expected, other), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=EXACT)


@pytest.mark.parametrize("window", [WINDOW, 100])
def test_a_window_of_a_whole_document_is_none(window: int) -> None:
    segments, rows = Segments.build([WINDOW, 2, WINDOW], 2 * WINDOW + 2), drawn(2 * WINDOW + 2)
    plain, windowed = (attend(*rows, segments, Scores(causal=True, window=one)) for one in (None, window))
    assert torch.equal(plain, windowed)


def test_no_rows_have_gradients_of_zero() -> None:
    rows = drawn(3)
    attend(*rows, Segments.build([0], 3), Scores(causal=True, window=WINDOW)).sum().backward()
    assert all(one.grad is not None and not one.grad.any() for one in rows)
