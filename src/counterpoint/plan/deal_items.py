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
    lane_of = [0] * len(costs)
    for unit in costliest_first(costs):
        least = loads[0]
        lane_of[unit] = by_total[least % size]
        heapreplace(loads, least + costs[unit] * size)
    for load in loads:
        totals[by_total[load % size]] += load // size
    return trade_alike(lane_of, costs, near)


def trade_alike(lane_of: Sequence[int], costs: Sequence[int], near: Sequence[int]) -> list[int]:
    """The lanes of units after a trade among equal costs: a unit takes a place in the lane `near` it if it can."""
    traded = list(lane_of)
    alike: dict[int, list[int]] = {}
    for unit, cost in enumerate(costs):
        if cost in alike:
            alike[cost].append(unit)
        else:
            alike[cost] = [unit]
    for units in alike.values():
        if len(units) > 1:
            _bring_home(units, traded, near)
    return traded


def _bring_home(units: Sequence[int], lane_of: list[int], near: Sequence[int]) -> None:
    """Let units trade their lanes."""
    free: dict[int, int] = {}
    for unit in units:
        lane = lane_of[unit]
        free[lane] = free.get(lane, 0) + 1
    away = []
    for unit in units:
        lane = near[unit]
        if free.get(lane):
            free[lane] -= 1
            lane_of[unit] = lane
        else:
            away.append(unit)
    if len(away) < len(units):
        left = [lane for lane, count in free.items() for _ in range(count)]
        for unit, lane in zip(away, left, strict=True):
            lane_of[unit] = lane


def deal_evenly(count: int, lanes: int) -> list[range]:
    """Consecutive runs of `count` units for each lane, whose lengths differ by at most one."""
    bounds = [count * lane // lanes for lane in range(lanes + 1)]
    return [range(start, stop) for start, stop in itertools.pairwise(bounds)]


def costliest_first(costs: Sequence[int]) -> list[int]:
    """Units by falling costs, those of the same cost in their order."""
    return sorted(range(len(costs)), key=costs.__getitem__, reverse=True)
