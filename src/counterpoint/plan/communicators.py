"""Which communicators a placement needs, in the one order in which all ranks create them.

Collectives over the same ranks share a communicator. Transfers have their own: one per edge and direction, one per
pipeline column and direction, so that neither waits for the other.
"""

from dataclasses import dataclass
from functools import lru_cache

from counterpoint.plan.action import Direction
from counterpoint.plan.graph import Link
from counterpoint.plan.layout import format_ranks
from counterpoint.plan.placement import Placement

COLLECTIVE_AXES = ("dp_shard", "dp_replicate", "cp", "tp")
"""Axes along which a module's parameters or rows are exchanged collectively."""

EXPERT_AXES = ("edp", "ep", "lane")
"""Axes that stages with a mixture of experts need as well: for its parameters, its rows, its counts by document."""


@dataclass(frozen=True, slots=True)
class Communicator:
    """A name that is the same on every rank, the ranks that take part, and whether it carries transfers."""

    name: str
    ranks: tuple[int, ...]
    is_transfer: bool = False


@lru_cache(maxsize=4096)
def collective_name(ranks: tuple[int, ...]) -> str:
    """The communicator of all collectives over these ranks."""
    return f"collective[{format_ranks(ranks)}]"


def transfer_name(placement: Placement, link: Link, direction: Direction, rank: int) -> str:
    """The communicator on which a rank's part of a link's exchange is issued."""
    ranks = placement.layout(link.source.module).group("pp", rank) if link.is_hop else ()
    return _channel_name(placement, link, direction, ranks)


def communicators(
    placement: Placement, links: tuple[Link, ...], more: tuple[tuple[int, ...], ...] = ()
) -> tuple[Communicator, ...]:
    """All communicators of more than one rank: the active world, every collective group, `more` of tied weights and
    experts, every transfer channel."""
    wanted: dict[tuple[int, ...], Communicator] = {}
    axes = (group for layout in placement.layouts for axis in COLLECTIVE_AXES for group in layout.groups(axis))
    for ranks in (placement.active, *axes, *more):
        if len(ranks) > 1 and ranks not in wanted:
            wanted[ranks] = Communicator(collective_name(ranks), ranks)
    channels: dict[str, Communicator] = {}
    for link in links:
        for direction in Direction:
            for ranks in _channel_ranks(placement, link):
                name = _channel_name(placement, link, direction, ranks)
                if len(ranks) > 1 and name not in channels:
                    channels[name] = Communicator(name, ranks, True)
    return (*wanted.values(), *channels.values())


def _channel_ranks(placement: Placement, link: Link) -> tuple[tuple[int, ...], ...]:
    """The ranks that share a channel of a link: the columns of a pipeline, or both ends of an edge."""
    source = placement.layout(link.source.module)
    if link.is_hop:
        return source.groups("pp")
    target = placement.layout(link.target.module)
    ends = {*source.stage_ranks(link.source.stage), *target.stage_ranks(link.target.stage)}
    return (tuple(sorted(ends)),)


def _channel_name(placement: Placement, link: Link, direction: Direction, ranks: tuple[int, ...]) -> str:
    return f"{link}{direction}" if not link.is_hop else f"{column_kind(placement, link)}[{format_ranks(ranks)}]{direction}"


def column_kind(placement: Placement, link: Link) -> str:
    """The kind of channel of a hop: rows that chunks send from a pipeline's last ranks back to its first wait for no
    other hop."""
    source = placement.layout(link.source.module)
    return f"{source.module}.{'pp' if link.target.stage % source.pp else 'wrap'}"
