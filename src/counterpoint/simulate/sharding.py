"""The groups in which FSDP2 gathers a stage's parameters and sums their gradients, and what of that overlaps.

Groups are those that `parallelize/fsdp.py` makes. A gather runs while the group before it computes; the sum of a group
runs while later groups compute. On a CPU nothing runs beside anything else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, final

from counterpoint.plan.graph import Node
from counterpoint.plan.part_facts import EXPERTS
from counterpoint.plan.plan import Plan

LEAST_GROUP = 2**26
"""Fewest parameters of a group that is large enough, as in `parallelize/fsdp.py`."""

TINY_PART = 64
"""A part that has this many times fewer parameters than the layers before it joins their group, as there."""

Axis = Literal["dp_shard", "edp"]


@final
@dataclass(frozen=True, slots=True)
class ShardedGroup:
    """Parameters that are gathered together over an axis: those of one rank's tp or ep share, before FSDP cuts them.

    `parts` are the places in the stage of the parts that use them; `trained` of them have gradients. They are those of
    so many `tensors`.
    """

    parts: tuple[int, ...]
    parameters: int
    trained: int
    tensors: int
    axis: Axis


def sharded_groups(plan: Plan, node: Node) -> tuple[ShardedGroup, ...]:
    """The groups of a node in the order in which forward needs them."""
    layout = plan.layouts[node.module]
    start, stop = plan.splits[node.module][node.stage]
    parts = plan.facts[node.module].parts[start:stop]
    shares = _trained_shares(plan, node)
    dense = [-(-(part.parameters - part.expert_parameters) // layout.tp) for part in parts]
    numbers = [sum(EXPERTS not in name for name, _shape in part.tensors) for part in parts]
    groups = [_dense(places, dense, shares, numbers) for places in _units(plan, node, dense)]
    for place, part in enumerate(parts):
        # Without resharding the experts of a single rank are kept as they are, and nothing is gathered.
        if part.expert_parameters and (layout.reshard or layout.edp > 1):
            held = -(-part.expert_parameters // layout.expert_size)
            tensors = len(part.tensors) - numbers[place]
            groups.append(ShardedGroup((place,), held, round(held * shares[place]), tensors, "edp"))
    return tuple(sorted(groups, key=lambda group: group.parts[0]))


def _dense(
    places: tuple[int, ...], sizes: Sequence[int], shares: Sequence[float], numbers: Sequence[int]
) -> ShardedGroup:
    trained = sum(round(sizes[place] * shares[place]) for place in places)
    parameters, tensors = (sum(each[place] for place in places) for each in (sizes, numbers))
    return ShardedGroup(places, parameters, trained, tensors, "dp_shard")


def _units(plan: Plan, node: Node, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    start, stop = plan.splits[node.module][node.stage]
    least = 0 if plan.layouts[node.module].reshard else LEAST_GROUP
    unit: list[int] = []
    filled, has_layers = 0, False
    for place, part in enumerate(plan.facts[node.module].parts[start:stop]):
        size = sizes[place]
        if not size:
            continue
        is_layer = part.name.startswith("layers.")
        if unit and least and has_layers and ((is_layer and filled < least) or size * TINY_PART <= filled):
            unit.append(place)
            filled += size
            continue
        if unit:
            yield tuple(unit)
        unit, filled, has_layers = [place], size, is_layer
    if unit:
        yield tuple(unit)


def _trained_shares(plan: Plan, node: Node) -> list[float]:
    """The share of the parameters of each of a stage's parts that is trained."""
    start, stop = plan.splits[node.module][node.stage]
    parts = plan.facts[node.module].parts[start:stop]
    if node.module not in plan.trained:
        return [1.0] * len(parts)
    trained = plan.trained[node.module][start:stop]
    return [own.elements / max(part.parameters, 1) for own, part in zip(trained, parts, strict=True)]


@final
@dataclass(frozen=True, slots=True)
class Overlapped:
    """The seconds of a pass through a stage: computing, waiting for gathers, and of sums after its end."""

    computes: float
    gathers: float
    sums: float


def overlapped(computes: Sequence[float], gathers: Sequence[float], sums: Sequence[float]) -> Overlapped:
    """Work that comes in this order, each after its gather and before its sum.

    Gathers follow each other, and one begins no earlier than the work before the last one does: two are held at once.
    """
    gathered = free = summed = 0.0
    begins: list[float] = []
    for compute, gather, reduction in zip(computes, gathers, sums, strict=True):
        gathered = max(gathered, begins[-1] if begins else 0.0) + gather
        begins.append(max(free, gathered))
        free = begins[-1] + compute
        if reduction:
            summed = max(summed, free) + reduction
    whole = sum(computes)
    return Overlapped(whole, free - whole, max(0.0, summed - free))


def one_after_the_other(computes: Sequence[float], gathers: Sequence[float], sums: Sequence[float]) -> Overlapped:
    """The same on a processor that does one thing at a time; sums are made before the next work begins."""
    return Overlapped(sum(computes), sum(gathers) + sum(sums), 0.0)


def by_group(groups: Sequence[ShardedGroup], parts: Sequence[float]) -> list[float]:
    """The seconds of parts added up by the group that must be there before they run: the last one that begins there."""
    firsts = [group.parts[0] for group in groups]
    bounds = [*firsts[1:], len(parts)]
    totals = [0.0, *accumulate(parts)]
    if not groups:
        return []
    begins = [0, *firsts[1:]]
    return [totals[max(begin, stop)] - totals[begin] for begin, stop in zip(begins, bounds, strict=True)]
