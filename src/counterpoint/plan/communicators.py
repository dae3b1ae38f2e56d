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
    carriers = {link: (column_kind(placement, link) if link.is_hop else link) for link in links}
    distinct = {carrier: link for link, carrier in reversed(carriers.items())}
    transfers = [
        channel
        for link, carrier in carriers.items()
        if distinct[carrier] is link
        for direction in Direction
        for channel in channels(placement, link, direction)
        if len(channel.ranks) > 1
    ]
    return (*wanted.values(), *transfers)


def channels(placement: Placement, link: Link, direction: Direction) -> tuple[Communicator, ...]:
    """The communicators of a link's transfers: one for each column of a pipeline, or one for both ends of an edge."""
    source = placement.layout(link.source.module)
    if link.is_hop:
        columns = source.groups("pp")
    else:
        target = placement.layout(link.target.module)
        ends = {*source.stage_ranks(link.source.stage), *target.stage_ranks(link.target.stage)}
        columns = (tuple(sorted(ends)),)
    return tuple(Communicator(_channel_name(placement, link, direction, ranks), ranks, True) for ranks in columns)


def _channel_name(placement: Placement, link: Link, direction: Direction, ranks: tuple[int, ...]) -> str:
    carrier = f"{column_kind(placement, link)}[{format_ranks(ranks)}]" if link.is_hop else link
    return f"{carrier}{direction}"


def column_kind(placement: Placement, link: Link) -> str:
    """The kind of channel of a hop: rows that chunks send from a pipeline's last ranks back to its first wait for no
    other hop."""
    source = placement.layout(link.source.module)
    return f"{source.module}.{'pp' if link.target.stage % source.pp else 'wrap'}"
