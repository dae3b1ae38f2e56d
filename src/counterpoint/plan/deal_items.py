"""Dealing the items of a microbatch to the lanes of an encoder."""

import heapq
import itertools
from collections import Counter
from collections.abc import Sequence


def deal_items(costs: Sequence[int], near: Sequence[int], lanes: range, totals: list[int]) -> list[int]:
    """The lane of each unit of these `costs`: the costliest goes to the least loaded of `lanes` (Graham 1969).

    Ties go to the lane with the least in `totals`, the step's loads so far, which this updates. Units of the same cost
    then trade places, so that as many as possible are in the lane `near` their document.
    """
    by_total = sorted(lanes, key=totals.__getitem__)
    # A load and its lane's place are one number, load * size + place: half the time of a heap of pairs.
    size = len(by_total)
    loads = list(range(size))
    lane_of = [0] * len(costs)
    for unit in costliest_first(costs):
        lane_of[unit] = by_total[loads[0] % size]
        heapq.heapreplace(loads, loads[0] + costs[unit] * size)
    for load in loads:
        totals[by_total[load % size]] += load // size
    return trade_alike(lane_of, costs, near)


def trade_alike(lane_of: Sequence[int], costs: Sequence[int], near: Sequence[int]) -> list[int]:
    """The lanes of units after a trade among equal costs: a unit takes a place in the lane `near` it if it can."""
    places = Counter(zip(costs, lane_of, strict=True))
    traded, away = list(near), []
    for unit, place in enumerate(zip(costs, near, strict=True)):
        if places[place]:
            places[place] -= 1
        else:
            away.append(unit)
    away.sort(key=costs.__getitem__)
    for unit, (_cost, lane) in zip(away, sorted(places.elements()), strict=True):
        traded[unit] = lane
    return traded


def deal_evenly(count: int, lanes: int) -> list[range]:
    """Consecutive runs of `count` units for each lane, whose lengths differ by at most one."""
    bounds = [count * lane // lanes for lane in range(lanes + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def costliest_first(costs: Sequence[int]) -> list[int]:
    """Units by falling costs, those of the same cost in their order."""
    return sorted(range(len(costs)), key=costs.__getitem__, reverse=True)
