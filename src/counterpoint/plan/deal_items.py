"""Dealing the items of a microbatch to the lanes of an encoder."""

import itertools
from collections.abc import Sequence
from heapq import heapreplace


def deal_items(costs: Sequence[int], near: Sequence[int], lanes: range, totals: list[int]) -> list[int]:
    """The lane of each unit of these `costs`: the costliest goes to the least loaded of `lanes` (Graham 1969).

    Ties go to the lane with the least in `totals`, the step's loads so far, which this updates. Units of the same cost
    then trade places, so that as many as possible are in the lane `near` their document.
    """
    alike: dict[int, list[int]] = {}
    for unit, cost in enumerate(costs):
        if cost in alike:
            alike[cost].append(unit)
        else:
            alike[cost] = [unit]
    by_total = sorted(lanes, key=totals.__getitem__)
    # A load and its lane's place are one number, load * size + place: half the time of a heap of pairs.
    size = len(by_total)
    loads = list(range(size))
    lane_of = [0] * len(costs)
    for cost in sorted(alike, reverse=True):
        units, more, places = alike[cost], cost * size, []
        for _unit in units:
            least = loads[0]
            places.append(by_total[least % size])
            heapreplace(loads, least + more)
        for unit, lane in zip(units, brought_home(places, [near[unit] for unit in units]), strict=True):
            lane_of[unit] = lane
    for load in loads:
        totals[by_total[load % size]] += load // size
    return lane_of


def brought_home(places: list[int], near: Sequence[int]) -> list[int]:
    """The same places after a trade: a unit has a place in the lane `near` it if there are enough."""
    if len(places) == 1:
        return places
    free: dict[int, int] = {}
    for lane in places:
        free[lane] = free.get(lane, 0) + 1
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
