"""Pairs by mask and what they cost, against pairs that are counted one by one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.cost import ALL, CAUSAL, Cost, Load, Mask, added

ROWS = st.integers(0, 12)
WINDOW = Mask(causal=True, window=3)


def counted(rows: int, sees: Callable[[int, int], bool]) -> int:
    """Pairs of a query and a key that it sees."""
    return sum(sees(query, key) for query in range(rows) for key in range(rows))


@given(rows=ROWS, window=st.integers(1, 14))
def test_pairs_are_those_that_rows_see(rows: int, window: int) -> None:
    assert ALL.pairs(rows) == counted(rows, lambda _query, _key: True)
    assert CAUSAL.pairs(rows) == counted(rows, lambda query, key: key <= query)
    found = Mask(causal=True, window=window).pairs(rows)
    assert found == counted(rows, lambda query, key: query - window < key <= query)
    assert found == sum(min(row + 1, window) for row in range(rows))


@given(blocks=st.integers(0, 4), window=st.integers(1, 6))
def test_rows_of_blocks_see_their_own(blocks: int, window: int) -> None:
    rows = blocks * window
    assert Mask(window=window).pairs(rows) == counted(rows, lambda query, key: query // window == key // window)


@given(lengths=st.lists(ROWS, max_size=5), prefix=st.integers(0, 2))
def test_a_cost_is_that_of_rows_and_pairs(lengths: list[int], prefix: int) -> None:
    cost = Cost(per_row=7, per_pair=((CAUSAL, 5), (WINDOW, 3)), prefix=prefix)
    load = Load(prefix + rows for rows in lengths)
    expected = 7 * load.rows + 5 * load.pairs(CAUSAL) + 3 * load.pairs(WINDOW)
    assert sum(map(cost.of, lengths)) == expected


@pytest.mark.parametrize("groups", [[], [()], [((ALL, 1),), ((CAUSAL, 2), (ALL, 3)), ((CAUSAL, 4),)]])
def test_flops_of_a_mask_are_added_up(groups: list[tuple[tuple[Mask, int], ...]]) -> None:
    sums = dict(added(groups))
    assert sums == ({ALL: 4, CAUSAL: 6} if len(groups) == 3 else {})
    assert Load([4]).pairs(ALL) == Load([4]).pairs(ALL) == 16
