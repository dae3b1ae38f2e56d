"""Packed rows, padded documents and the attention between them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.models.attention import attend
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
    mixed = attend(queries, keys, values, segments, causal=causal)
    expected = torch.zeros_like(mixed)
    start = 0
    for length in lengths:
        document = slice(start, start + length)
        start += length
        if length:
            one = (rows[document].transpose(0, 1) for rows in (queries, keys, values))
            alone = F.scaled_dot_product_attention(*one, is_causal=causal, enable_gqa=grouped)
            expected[document] = alone.transpose(0, 1)
    assert (mixed - expected).abs().max().item() <= 1e-12 if mixed.numel() else not expected.numel()


def test_documents_of_distant_lengths_do_not_pad_each_other() -> None:
    segments = Segments.build([1000, *[1] * 100], 1100)
    assert sum(bucket.documents * bucket.longest for bucket in segments.buckets) < 4 * 1100


def test_more_documents_than_rows_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="do not fit"):
        Segments.build([3, 3], 5)
