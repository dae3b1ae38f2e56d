"""Dealing the items of a microbatch to the lanes of an encoder."""

import itertools
from collections.abc import Sequence
from heapq import heapreplace


def deal_items(costs: Sequence[int], near: Sequence[int], lanes: range, totals: list[int]) -> list[int]:
    """The lane of each unit of these `costs`: the costliest goes to the least loaded of `lanes` (Graham 1969).

    Ties go to the lane with the least in `totals`, the step's loads so far, which this updates. Units of the same cost
    then trade places, so that as many as possible are in the lane `near` their document.
    """
    by_total = sorted(lanes, key=totals.__getitem__)
    # A load and its lane's place are one number, load * size + place: half the time of a heap of pairs.
    size = len(by_total)
    loads = list(range(size))
    units = costliest_first(costs)
    falling = [costs[unit] for unit in units]
    places = [by_total[heapreplace(loads, loads[0] + cost * size) % size] for cost in falling]
    homes = [near[unit] for unit in units]
    start = 0
    for _cost, alike in itertools.groupby(falling):
        stop = start + len(list(alike))
        if stop > start + 1:
            places[start:stop] = brought_home(places[start:stop], homes[start:stop])
        start = stop
    lane_of = [0] * len(costs)
    for unit, lane in zip(units, places, strict=True):
        lane_of[unit] = lane
    for load in loads:
        totals[by_total[load % size]] += load // size
    return lane_of


def brought_home(places: list[int], near: Sequence[int]) -> list[int]:
    """The same places after a trade: a unit has a place in the lane `near` it if there are enough."""
    free: dict[int, int] = {}
    for lane in places:
        free[lane] = free.get(lane, 0) + 1
    if len(free) == len(places) and free.keys().isdisjoint(near):
        return places
    taken = []
    for lane in near:
        if free.get(lane):
            free[lane] -= 1
            taken.append(lane)
        else:
            taken.append(-1)
    left = iter([lane for lane, count in free.items() for _ in range(count)])
    return [next(left) if lane < 0 else lane for lane in taken]


def deal_evenly(count: int, lanes: int) -> list[range]:
    """Consecutive runs of `count` units for each lane, whose lengths differ by at most one."""
    bounds = [count * lane // lanes for lane in range(lanes + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def costliest_first(costs: Sequence[int]) -> list[int]:
    """Units by falling costs, those of the same cost in their order."""
    return sorted(range(len(costs)), key=costs.__getitem__, reverse=True)
