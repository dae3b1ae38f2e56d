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
    rows = row_axes(has_experts=has_experts, pools=pools)
    first = _groups(layout, place, (*parameter_axes(has_experts=has_experts), *rows))
    every = frozenset(_groups(layout, place, rows))
    return Collectives(
        first=first,
        every=first if layout.reshard else tuple(group for group in first if group in every),
        last=_groups(layout, place, reduction_axes(has_experts=has_experts)),
    )


def parameter_axes(*, has_experts: bool) -> tuple[str, ...]:
    """The axes along which a compute gathers parameters."""
    return ("dp_shard", "edp") if has_experts else ("dp_shard",)


def row_axes(*, has_experts: bool, pools: bool) -> tuple[str, ...]:
    """The axes along which a compute trades or sums rows."""
    return ("tp", "cp", "lane", "ep") if has_experts else ("tp", "cp", "lane") if pools else ("tp", "cp")


def reduction_axes(*, has_experts: bool) -> tuple[str, ...]:
    """The axes along which gradients are summed."""
    return ("dp_shard", "dp_replicate", "edp") if has_experts else ("dp_shard", "dp_replicate")


def _groups(layout: Layout, place: int, axes: Sequence[str]) -> Groups:
    """The groups of several ranks along these axes, each once."""
    sizes = {axis: layout.line(axis, 0)[2] for axis in axes}
    groups = (group for axis in axes if sizes[axis] > 1 for group in layout.groups(axis, place))
    return tuple(dict.fromkeys(groups))
