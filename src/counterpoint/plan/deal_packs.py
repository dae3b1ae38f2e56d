"""Dealing a step's packs to cells, a lane and a microbatch of the sink each.

What is balanced first is the cost of a lane over the whole step, for which lanes wait at its end. Then the packs of
each lane are cut into microbatches by one profile that all lanes share, since lanes that gather weights or trade rows
of experts wait for each other in every microbatch. No cell gets more rows than the fullest has where packs are dealt in
their order, so balancing never costs memory.
"""

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from operator import attrgetter

from counterpoint.plan.deal_items import costliest_first, deal_evenly

Cells = list[list[list[int]]]
"""The packs of each microbatch and lane, ascending."""

_CLOSE = 40
"""A heaviest lane within one part in so many of the least possible is not lightened further."""

_NOTHING = -1
"""In the place of a pack: none."""

_TRADERS = 8
"""Number of the lightest lanes with which the heaviest one tries to trade."""


def deal_packs_in_order(count: int, lanes: int, microbatches: int) -> Cells:
    """Consecutive packs for each cell; cells differ by at most one pack."""
    cells = [list(run) for run in deal_evenly(count, lanes * microbatches)]
    return [cells[start : start + lanes] for start in range(0, len(cells), lanes)]


def deal_packs(costs: Sequence[int], rows: Sequence[int], lanes: int, microbatches: int) -> Cells:
    """Deal packs of these `costs` and `rows` so that lanes have about the same cost, in the step and its microbatches.

    The heaviest lane of the step is never heavier than where the costliest pack goes to the lightest lane that has room
    for it (Graham 1969). Packs stay in their order where that is as even.
    """
    in_order = deal_packs_in_order(len(costs), lanes, microbatches)
    room = max(sum(rows[pack] for pack in cell) for cell in itertools.chain(*in_order))
    dealt = _longest_first(costs, rows, lanes, microbatches, room)
    if dealt is None:
        return in_order
    _lighten(dealt, costs, rows, room)
    cells = _cut_alike(dealt, costs, rows, room)
    is_as_even = all(a <= b for a, b in zip(_heaviest(in_order, costs), _heaviest(cells, costs), strict=True))
    return in_order if is_as_even else cells


def _heaviest(cells: Cells, costs: Sequence[int]) -> tuple[int, int]:
    """The cost of the heaviest lane, and the sum over microbatches of the costs of their heaviest cells."""
    loads = [[sum(map(costs.__getitem__, cell)) for cell in of_lanes] for of_lanes in cells]
    return max(map(sum, zip(*loads, strict=True))), sum(map(max, loads))


@dataclass(slots=True)
class _Lane:
    """A lane while packs are dealt to it: the packs and rows of its cells, and its cost."""

    cells: list[list[int]]
    rows: list[int]
    load: int = 0

    def packs(self) -> Iterator[tuple[int, int]]:
        """Its packs, each with its cell."""
        return ((pack, number) for number, cell in enumerate(self.cells) for pack in cell)


def _longest_first(
    costs: Sequence[int], rows: Sequence[int], lanes: int, microbatches: int, room: int
) -> list[_Lane] | None:
    """The costliest pack goes to the lightest lane that has room for it, into the emptiest cell there; None if a pack
    finds no room."""
    cells: list[list[list[int]]] = [[[] for _ in range(microbatches)] for _ in range(lanes)]
    # Loads with their lane, and the rows of a lane's cells with their number, are single numbers, as in `deal_items`.
    emptiest = [list(range(microbatches)) for _ in range(lanes)]
    loads = list(range(lanes))
    full: list[tuple[int, int]] = []
    for pack in costliest_first(costs):
        fitting = (room - rows[pack] + 1) * microbatches
        while full and full[0][0] < fitting:
            heappush(loads, heappop(full)[1])
        while loads and (filled := emptiest[lane := loads[0] % lanes][0]) >= fitting:
            heappush(full, (filled, heappop(loads)))
        if not loads:
            return None
        heapreplace(loads, loads[0] + costs[pack] * lanes)
        heapreplace(emptiest[lane], filled + rows[pack] * microbatches)
        cells[lane][filled % microbatches].append(pack)
    found = [_Lane(of_lane, [0] * microbatches) for of_lane in cells]
    for load in (*loads, *(load for _rows, load in full)):
        found[load % lanes].load = load // lanes
    for dealt, heap in zip(found, emptiest, strict=True):
        for filled in heap:
            dealt.rows[filled % microbatches] = filled // microbatches
    return found


def _lighten(lanes: list[_Lane], costs: Sequence[int], rows: Sequence[int], room: int) -> None:
    """Let the heaviest lane trade packs with lighter ones while that makes it lighter and it is worth it."""
    least = max(max(costs, default=0), sum(costs) // len(lanes))
    by_load = list(lanes)
    for _ in range(len(lanes)):
        by_load.sort(key=attrgetter("load"))
        heaviest = by_load[-1]
        if heaviest.load - least <= least // _CLOSE:
            return
        if not any(_trade(heaviest, other, costs, rows, room) for other in by_load[:_TRADERS]):
            return


def _trade(heavy: _Lane, light: _Lane, costs: Sequence[int], rows: Sequence[int], room: int) -> bool:
    """Give a pack of the heavy lane for a cheaper one of the light lane, or for none, so that the heavier of the two
    gets as light as possible; whether it got lighter."""
    gap = heavy.load - light.load
    emptiest = min(range(len(light.rows)), key=light.rows.__getitem__)
    offers = sorted([(0, _NOTHING, emptiest), *((costs[pack], pack, cell) for pack, cell in light.packs())])
    best = None
    for pack, cell in heavy.packs():
        place = bisect_left(offers, (costs[pack] - gap // 2, 0, 0))
        for cost, other, other_cell in offers[max(place - 1, 0) : place + 1]:
            moved, moved_rows = costs[pack] - cost, rows[pack] - (0 if other == _NOTHING else rows[other])
            fits = light.rows[other_cell] + moved_rows <= room and heavy.rows[cell] - moved_rows <= room
            if fits and 0 < moved < gap:
                trade = (abs(gap - 2 * moved), pack, cell, other, other_cell, moved, moved_rows)
                best = trade if best is None else min(best, trade)
    if best is None:
        return False
    _left, pack, cell, other, other_cell, moved, moved_rows = best
    heavy.cells[cell].remove(pack)
    light.cells[other_cell].append(pack)
    if other != _NOTHING:
        light.cells[other_cell].remove(other)
        heavy.cells[cell].append(other)
    for lane, number, sign in ((heavy, cell, -1), (light, other_cell, 1)):
        lane.rows[number] += sign * moved_rows
        lane.load += sign * moved
    return True


def _cut_alike(lanes: list[_Lane], costs: Sequence[int], rows: Sequence[int], room: int) -> Cells:
    """Cut each lane's packs into its microbatches, those of all lanes by the same profile of costs."""
    count = len(lanes[0].cells)
    if count == 1:
        return [[sorted(lane.cells[0]) for lane in lanes]]
    ranked = [sorted((p for p, _cell in lane.packs()), key=costs.__getitem__, reverse=True) for lane in lanes]
    alone = [max((costs[packs[m]] for packs in ranked if m < len(packs)), default=0) for m in range(count)]
    profile = _profile(alone, max(lane.load for lane in lanes))
    cut = [
        _cut(packs, profile, costs, rows, room)
        or sorted(lane.cells, key=lambda cell: -sum(costs[pack] for pack in cell))
        for packs, lane in zip(ranked, lanes, strict=True)
    ]
    return [[sorted(cells[m]) for cells in cut] for m in range(count)]


def _profile(alone: Sequence[int], load: int) -> list[int]:
    """Costs of a lane's microbatches, descending, of the sum `load` if that is enough: at least those `alone`, which
    descend, and as even as that allows."""
    for number, cost in enumerate(alone):
        level = (load - sum(alone[:number])) // (len(alone) - number)
        if level >= cost:
            return [*alone[:number], *[level] * (len(alone) - number)]
    return list(alone)


def _cut(
    packs: Sequence[int], profile: Sequence[int], costs: Sequence[int], rows: Sequence[int], room: int
) -> list[list[int]] | None:
    """Lay packs, the costliest first, into the microbatch with room that lacks most of its cost in the profile; None if
    one finds no room."""
    cells: list[list[int]] = [[] for _ in profile]
    filled = [0] * len(profile)
    lacks = [(-cost, number) for number, cost in enumerate(profile)]
    heapify(lacks)
    for pack in packs:
        passed = []
        while lacks and filled[lacks[0][1]] + rows[pack] > room:
            passed.append(heappop(lacks))
        if not lacks:
            return None
        lack, number = lacks[0]
        heapreplace(lacks, (lack + costs[pack], number))
        cells[number].append(pack)
        filled[number] += rows[pack]
        for entry in passed:
            heappush(lacks, entry)
    return cells
