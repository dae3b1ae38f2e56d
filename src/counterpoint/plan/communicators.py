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
    return _transfer(placement, link, direction, rank).name


def _transfer(placement: Placement, link: Link, direction: Direction, rank: int) -> Communicator:
    source = placement.layout(link.source.module)
    if link.is_hop:
        column = source.group("pp", rank)
        # Rows that chunks send from a pipeline's last ranks back to its first wait for no other hop.
        kind = "pp" if link.target.stage % source.pp else "wrap"
        return Communicator(f"{source.module}.{kind}[{format_ranks(column)}]{direction}", column, True)
    target = placement.layout(link.target.module)
    ranks = {*source.stage_ranks(link.source.stage), *target.stage_ranks(link.target.stage)}
    return Communicator(f"{link}{direction}", tuple(sorted(ranks)), True)


def communicators(
    placement: Placement, links: tuple[Link, ...], more: tuple[tuple[int, ...], ...] = ()
) -> tuple[Communicator, ...]:
    """All communicators: the active world, every collective group, `more` of tied weights and experts, every transfer
    channel."""
    wanted: dict[str, Communicator] = {}
    groups = [placement.active]
    groups += [group for layout in placement.layouts for axis in COLLECTIVE_AXES for group in layout.groups(axis)]
    for ranks in (*groups, *more):
        wanted.setdefault(collective_name(ranks), Communicator(collective_name(ranks), ranks))
    for link in links:
        source, target = placement.layout(link.source.module), placement.layout(link.target.module)
        ends = {*source.stage_ranks(link.source.stage), *target.stage_ranks(link.target.stage)}
        for direction in Direction:
            for rank in sorted(ends):
                communicator = _transfer(placement, link, direction, rank)
                wanted.setdefault(communicator.name, communicator)
    return tuple(wanted.values())
