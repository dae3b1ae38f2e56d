"""Which ranks of a stage communicate with each other, and at which of its computes: what their programs wait for."""

from collections.abc import Sequence
from typing import NamedTuple

from counterpoint.plan.layout import Layout

Groups = tuple[tuple[int, ...], ...]
"""Groups of ranks, in the order in which they communicate."""


class Collectives(NamedTuple):
    """The groups of a stage's collectives: at its first compute in a step, at every other, and in its reduction."""

    first: Groups
    every: Groups
    last: Groups


def collectives_of(layout: Layout, place: int, *, has_experts: bool, pools: bool) -> Collectives:
    """The groups of a stage at a place of its pipeline.

    The first compute gathers parameters; with `layout.reshard` every compute does. Where only forwards sum rows over a
    lane (`pools`), backwards count as if they did.
    """
    parameters = ("dp_shard", "edp") if has_experts else ("dp_shard",)
    rows = ("tp", "cp", "lane", "ep") if has_experts else ("tp", "cp", *(("lane",) if pools else ()))
    experts = ("edp",) if has_experts else ()
    first = _groups(layout, place, (*parameters, *rows))
    every = frozenset(_groups(layout, place, rows))
    return Collectives(
        first=first,
        every=first if layout.reshard else tuple(group for group in first if group in every),
        last=_groups(layout, place, ("dp_shard", "dp_replicate", *experts)),
    )


def _groups(layout: Layout, place: int, axes: Sequence[str]) -> Groups:
    """The groups of several ranks along these axes, each once."""
    sizes = {axis: layout.line(axis, 0)[2] for axis in axes}
    groups = (group for axis in axes if sizes[axis] > 1 for group in layout.groups(axis, place))
    return tuple(dict.fromkeys(groups))
