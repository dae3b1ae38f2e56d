"""Packed rows, padded documents and the attention between them."""

from dataclasses import replace
from itertools import accumulate, pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.layers.attention.kernels import Scores
from counterpoint.layers.attention.sublayer import attend
from counterpoint.models.segments import Segments

LENGTHS = st.lists(st.integers(0, 40), max_size=8)


@settings(deadline=None)
@given(lengths=LENGTHS, padding=st.integers(0, 5))
def test_buckets_hold_every_row_once_and_little_padding(lengths: list[int], padding: int) -> None:
    segments = Segments.build(lengths, sum(lengths) + padding)
    sources = [row for bucket in segments.buckets for row in bucket.source.tolist()]
    assert sorted(sources) == list(range(sum(lengths)))
    for bucket in segments.buckets:
        assert bucket.documents * bucket.longest <= 4 * len(bucket.source)


@settings(deadline=None)
@given(lengths=LENGTHS, padding=st.integers(0, 5))
def test_unpad_undoes_pad(lengths: list[int], padding: int) -> None:
    segments = Segments.build(lengths, sum(lengths) + padding)
    rows = torch.arange(segments.rows * 6, dtype=torch.float64).view(segments.rows, 2, 3) + 1
    back = torch.zeros_like(rows)
    for bucket in segments.buckets:
        back = bucket.unpad_into(back, bucket.pad(rows))
    assert torch.equal(back[: sum(lengths)], rows[: sum(lengths)])
    assert not back[sum(lengths) :].any()


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, padding=st.integers(0, 3), causal=st.booleans(), grouped=st.booleans())
def test_attention_stays_inside_documents(lengths: list[int], padding: int, causal: bool, grouped: bool) -> None:
    segments = Segments.build(lengths, sum(lengths) + padding)
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(segments.rows, 4, 3, dtype=torch.float64, generator=generator)
    keys, values = torch.randn(2, segments.rows, 2 if grouped else 4, 3, dtype=torch.float64, generator=generator)
    mixed = attend(queries, keys, values, segments, Scores(causal))
    expected = torch.zeros_like(mixed)
    start = 0
    for length in lengths:
        document = slice(start, start + length)
        start += length
        if length:
            q, k, v = (rows[document].transpose(0, 1) for rows in (queries, keys, values))
            alone = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
            expected[document] = alone.transpose(0, 1)
    assert (mixed - expected).abs().max().item() <= 1e-12 if mixed.numel() else not expected.numel()


@settings(deadline=None)
@given(
    lengths=st.one_of(LENGTHS, st.integers(0, 6).flatmap(lambda n: st.lists(st.just(n), max_size=5))),
    padding=st.integers(0, 5),
)
def test_borders_lie_between_documents_that_are_even_only_if_equal_and_filling(
    lengths: list[int], padding: int
) -> None:
    rows = sum(lengths) + padding
    segments = Segments.build(lengths, rows)
    assert segments.borders is not None
    borders = segments.borders.tolist()
    assert borders == [*accumulate(lengths, initial=0), rows]
    assert segments.longest == max(stop - start for start, stop in pairwise(borders))
    is_even = len(set(lengths)) == 1 and not padding
    assert segments.even == (lengths[0] if is_even else 0)


@settings(deadline=None)
@given(lengths=LENGTHS, gaps=st.lists(st.integers(0, 2), min_size=8, max_size=8))
def test_starts_without_gaps_are_none_and_with_gaps_leave_no_borders(lengths: list[int], gaps: list[int]) -> None:
    spread = list(accumulate(gaps[: len(lengths)]))
    starts = [start + gap for start, gap in zip(accumulate(lengths, initial=0), spread)]
    rows = sum(lengths) + sum(gaps)
    given_starts, gapless = Segments.build(lengths, rows, starts=starts), Segments.build(lengths, rows)
    if any(spread):
        assert given_starts.borders is None
        assert given_starts.even == 0
    else:
        assert torch.equal(given_starts.borders, gapless.borders)  # type: ignore[arg-type]
        assert given_starts.even == gapless.even
    sources = sorted(row for bucket in given_starts.buckets for row in bucket.source.tolist())
    assert sources == sorted(row for start, n in zip(starts, lengths) for row in range(start, start + n))


@settings(max_examples=25, deadline=None)
@given(length=st.integers(1, 12), count=st.integers(1, 4), causal=st.booleans(), grouped=st.booleans())
def test_even_documents_are_mixed_as_padded_ones_are(length: int, count: int, causal: bool, grouped: bool) -> None:
    segments = Segments.build([length] * count, length * count)
    assert segments.even == length
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(segments.rows, 4, 3, dtype=torch.float64, generator=generator)
    keys, values = torch.randn(2, segments.rows, 2 if grouped else 4, 3, dtype=torch.float64, generator=generator)
    padded = replace(segments, borders=None)
    assert padded.even == 0
    even, expected = (attend(queries, keys, values, one, Scores(causal)) for one in (segments, padded))
    assert (even - expected).abs().max().item() <= 1e-12


def test_documents_of_distant_lengths_do_not_pad_each_other() -> None:
    segments = Segments.build([1000, *[1] * 100], 1100)
    assert sum(bucket.documents * bucket.longest for bucket in segments.buckets) < 4 * 1100


def test_more_documents_than_rows_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="do not fit"):
        Segments.build([3, 3], 5)
