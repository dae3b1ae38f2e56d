"""Dealing the items of a microbatch to the lanes of an encoder."""

import itertools
from collections import defaultdict
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
    alike: defaultdict[int, list[int]] = defaultdict(list)
    for unit, cost in enumerate(costs):
        alike[cost].append(unit)
    lane_of = [0] * len(costs)
    for cost in sorted(alike, reverse=True):
        units, more = alike[cost], cost * size
        found = [by_total[heapreplace(loads, loads[0] + more) % size] for _ in units]
        if len(units) > 1:
            found = brought_home(found, [near[unit] for unit in units], len(totals))
        for unit, lane in zip(units, found, strict=True):
            lane_of[unit] = lane
    for load in loads:
        totals[by_total[load % size]] += load // size
    return lane_of


def brought_home(places: list[int], near: Sequence[int], lanes: int) -> list[int]:
    """The same places, below `lanes`, after a trade: a unit has one in the lane `near` it if there are enough."""
    free = [0] * lanes
    for lane in places:
        free[lane] += 1
    taken = list(near)
    away = []
    for unit, lane in enumerate(near):
        if free[lane]:
            free[lane] -= 1
        else:
            away.append(unit)
    left = iter(away)
    for lane in places:
        if free[lane]:
            free[lane] -= 1
            taken[next(left)] = lane
    return taken


def deal_evenly(count: int, lanes: int) -> list[range]:
    """Consecutive runs of `count` units for each lane, whose lengths differ by at most one."""
    bounds = [count * lane // lanes for lane in range(lanes + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def costliest_first(costs: Sequence[int]) -> list[int]:
    """Units by falling costs, those of the same cost in their order."""
    return sorted(range(len(costs)), key=costs.__getitem__, reverse=True)
