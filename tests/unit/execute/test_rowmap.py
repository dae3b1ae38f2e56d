"""Row maps: both ends of a route say the same of it."""

from itertools import accumulate

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from counterpoint.execute.rowmap import RowMap
from counterpoint.plan.route import Route
from tests.unit.execute.routes import Place, by_hand, routes

RANKS = (0, 1, 3, 4)


def cut(index: torch.Tensor, counts: tuple[tuple[int, int], ...]) -> dict[int, list[int]]:
    """Local rows by the rank at the other end."""
    ends = list(accumulate((rows for _peer, rows in counts), initial=0))
    assert ends[-1] == len(index)
    return {peer: index[first : first + rows].tolist() for (peer, rows), first in zip(counts, ends, strict=False)}


@settings(max_examples=25)
@given(routes(RANKS[:3], RANKS[1:]).map(lambda drawn: drawn[0]))
def test_what_leaves_in_an_order_arrives_in_that_order(route: Route) -> None:
    maps = {rank: RowMap.build(route, rank) for rank in RANKS}
    found: dict[Place, Place] = {}
    for source, of_source in maps.items():
        for target, leaving in cut(of_source.send_index, of_source.send_counts).items():
            arriving = cut(maps[target].receive_index, maps[target].receive_counts)[source]
            pairs = zip(leaving, arriving, strict=True)
            found |= {(source, row): (target, other) for row, other in pairs}
    assert found == by_hand(route)
    assert sum(len(rows.receive_index) for rows in maps.values()) == len(found)


@given(st.sampled_from(RANKS))
def test_a_rank_off_the_route_has_places_for_none(rank: int) -> None:
    rows = RowMap.build(Route(()), rank).to(torch.device("cpu"))
    assert rows.send_counts == rows.receive_counts == ()
    for index in (rows.send_index, rows.receive_index):
        assert index.shape == (0,)
        assert index.dtype == torch.int64
