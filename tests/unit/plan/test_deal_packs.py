"""Packs dealt to lanes and microbatches: each once, no heavier than longest-first dealing, and in no more memory."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from counterpoint.plan.deal_packs import Cells, deal_packs, deal_packs_in_order

PACKS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), max_size=24)
"""Costs and rows."""

LANES, MICROBATCHES = st.integers(1, 6), st.integers(1, 4)


def lane_costs(cells: Cells, costs: list[int]) -> list[int]:
    """The cost of each lane over the step."""
    return [sum(costs[pack] for cell in of_lane for pack in cell) for of_lane in zip(*cells, strict=True)]


def cell_sums(cells: Cells, sizes: list[int]) -> list[list[int]]:
    """By microbatch and lane, the sum of a cell's sizes."""
    return [[sum(sizes[pack] for pack in cell) for cell in of_lanes] for of_lanes in cells]


def longest_first(costs: list[int], rows: list[int], lanes: int, microbatches: int) -> list[int] | None:
    """Costs of lanes where the costliest pack goes to the lightest lane with room, by scanning all; None if one finds
    no room."""
    room = max(map(max, cell_sums(deal_packs_in_order(len(costs), lanes, microbatches), rows)))
    filled = [[0] * microbatches for _ in range(lanes)]
    loads = [0] * lanes
    for pack in sorted(range(len(costs)), key=lambda pack: (-costs[pack], pack)):
        fitting = [lane for lane in range(lanes) if min(filled[lane]) + rows[pack] <= room]
        if not fitting:
            return None
        lane = min(fitting, key=lambda lane: (loads[lane], lane))
        loads[lane] += costs[pack]
        filled[lane][filled[lane].index(min(filled[lane]))] += rows[pack]
    return loads


@given(PACKS, LANES, MICROBATCHES)
def test_every_pack_is_in_one_cell_and_no_cell_needs_more_rows_than_in_order(
    packs: list[tuple[int, int]], lanes: int, microbatches: int
) -> None:
    costs, rows = [cost for cost, _rows in packs], [rows for _cost, rows in packs]
    cells = deal_packs(costs, rows, lanes, microbatches)
    assert [len(of_lanes) for of_lanes in cells] == [lanes] * microbatches
    dealt = [cell for of_lanes in cells for cell in of_lanes]
    assert sorted(itertools.chain(*dealt)) == list(range(len(packs)))
    assert all(cell == sorted(cell) for cell in dealt)
    in_order = deal_packs_in_order(len(packs), lanes, microbatches)
    assert max(map(max, cell_sums(cells, rows))) <= max(map(max, cell_sums(in_order, rows)))


@given(PACKS, LANES, MICROBATCHES)
def test_the_heaviest_lane_is_never_heavier_than_by_longest_first(
    packs: list[tuple[int, int]], lanes: int, microbatches: int
) -> None:
    costs, rows = [cost for cost, _rows in packs], [rows for _cost, rows in packs]
    cells = deal_packs(costs, rows, lanes, microbatches)
    simple = longest_first(costs, rows, lanes, microbatches)
    if simple is None:
        assert cells == deal_packs_in_order(len(packs), lanes, microbatches)
    else:
        assert max(lane_costs(cells, costs)) <= max(simple)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), LANES, MICROBATCHES)
def test_where_memory_does_not_bind_a_lane_exceeds_the_mean_by_less_than_a_pack(
    costs: list[int], lanes: int, microbatches: int
) -> None:
    """So it is within a twentieth of the mean where no pack costs more than that."""
    heaviest = max(lane_costs(deal_packs(costs, [0] * len(costs), lanes, microbatches), costs))
    assert heaviest * lanes <= sum(costs) + (lanes - 1) * max(costs)


@given(st.integers(1, 5), LANES, MICROBATCHES, st.integers(1, 9))
def test_packs_of_one_cost_stay_in_order_where_they_divide_evenly(
    size: int, lanes: int, microbatches: int, cost: int
) -> None:
    count = size * lanes * microbatches
    cells = deal_packs([cost] * count, [cost] * count, lanes, microbatches)
    assert cells == deal_packs_in_order(count, lanes, microbatches)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=24), LANES, MICROBATCHES)
def test_packs_that_are_about_full_stay_as_many_in_every_lane(spare: list[int], lanes: int, microbatches: int) -> None:
    """A cell has at most as many as in order, since no more of them fit."""
    rows = [100 - one for one in spare]
    costs = [(5 * one) ** 2 + 1 for one in spare]
    cells = deal_packs(costs, rows, lanes, microbatches)
    if len(rows) <= lanes * microbatches:
        assert max(len(cell) for of_lanes in cells for cell in of_lanes) == 1


def test_the_heaviest_lane_trades_where_longest_first_leaves_it_heavy() -> None:
    """The classic case in which it makes a lane of 11 where 9 is possible."""
    costs = [5, 5, 4, 4, 3, 3, 3]
    assert sorted(lane_costs(deal_packs(costs, [0] * 7, 3, 1), costs)) == [9, 9, 9]
    assert longest_first(costs, [0] * 7, 3, 1) == [11, 8, 8]


def test_no_trade_takes_more_rows_than_there_is_room() -> None:
    """The lanes of 5 + 3 and 4 + 3 + 3 would trade the 4 for a 3, which has too many rows."""
    costs, rows = [3, 3, 5, 4, 3], [2, 4, 1, 1, 2]
    cells = deal_packs(costs, rows, 2, 1)
    assert sorted(lane_costs(cells, costs)) == [8, 10]
    assert cell_sums(cells, rows) == [[5, 5]]
    assert sorted(lane_costs(deal_packs(costs, [0] * 5, 2, 1), costs)) == [9, 9]


@given(st.integers(0, 40), LANES, MICROBATCHES)
def test_in_order_cells_differ_by_at_most_one_pack(count: int, lanes: int, microbatches: int) -> None:
    cells = [cell for of_lanes in deal_packs_in_order(count, lanes, microbatches) for cell in of_lanes]
    assert list(itertools.chain(*cells)) == list(range(count))
    assert max(map(len, cells)) - min(map(len, cells)) <= 1


def test_lanes_cut_their_packs_by_one_profile() -> None:
    """Where one pack alone is as heavy as a lane, all lanes put most of their cost into its microbatch."""
    costs = [60] + [1] * 60
    cells = deal_packs(costs, [0] * len(costs), 2, 3)
    loads = cell_sums(cells, costs)
    assert lane_costs(cells, costs) == [60, 60]
    assert loads[0] == [60, 60]
    assert loads[1:] == [[0, 0], [0, 0]]


def test_no_packs_leave_all_cells_empty() -> None:
    assert deal_packs([], [], 2, 3) == [[[], []]] * 3
