"""Rows of queries, keys and values in turn: whole, piece by piece and back, with as many reads as there are rows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from counterpoint.convert.interleaved import Interleaved
from counterpoint.convert.links import Place

NAMES = ("q", "k", "v")


@given(groups=st.integers(1, 4), rows=st.tuples(*[st.integers(1, 5)] * 3), data=st.data(), dims=st.sampled_from([1, 2]))
def test_pieces_are_those_of_whole_tensors(
    groups: int, rows: tuple[int, int, int], data: st.DataObject, dims: int
) -> None:
    link = Interleaved(NAMES, ("qkv",), rows)
    joined = torch.arange(groups * sum(rows) * 3.0).view(-1, 3) if dims == 2 else torch.arange(groups * sum(rows) * 1.0)
    ours = dict(zip(NAMES, link.to_ours([joined]), strict=True))
    (back,) = link.to_theirs(list(ours.values()))
    assert torch.equal(back, joined)
    read_elements = 0

    def read(name: str, place: Place | None) -> Tensor:
        nonlocal read_elements
        assert place is not None
        piece = ({"qkv": joined} | ours)[name][place]
        read_elements += piece.numel()
        return piece

    for name, whole in ours.items():
        start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        place = (slice(start, stop), slice(1, 3))[:dims]
        read_elements = 0
        assert torch.equal(link.piece(name, place, read), whole[place])
        assert read_elements == whole[place].numel()
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(joined))] * 2)))
    place = (slice(start, stop), slice(0, 2))[:dims]
    read_elements = 0
    assert torch.equal(link.their_piece("qkv", place, read), joined[place])
    assert read_elements == joined[place].numel()


@pytest.mark.parametrize(("queries", "expected"), [(1, [0, 3]), (2, [0, 1, 4, 5])])
def test_queries_of_a_group_come_first(queries: int, expected: list[int]) -> None:
    """Two groups of heads one row wide: queries, a key and a value of the first, then of the second."""
    link = Interleaved(NAMES, ("qkv",), (queries, 1, 1))
    q, k, v = link.to_ours([torch.arange(2 * (queries + 2))])
    assert q.tolist() == expected
    assert k.tolist() == [queries, 2 * queries + 2]
    assert v.tolist() == [queries + 1, 2 * queries + 3]
