"""Collectives and transfers, by the groups and channels that trainings use."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from counterpoint.calibrate.computes import floats, table
from counterpoint.calibrate.sizes import Sizes
from counterpoint.calibrate.stopwatch import Call, NotMeasuredError, Stopwatch, Timing
from counterpoint.costs.hardware import Collective, Network
from counterpoint.costs.table import Table
from counterpoint.execute.channel import Channel, open_channel
from counterpoint.execute.groups import Groups, World, make_groups
from counterpoint.parallelize.exchange import TensorGroup
from counterpoint.plan.communicators import Communicator, collective_name

_FLOAT_BYTES = 4
_SMALL, _LARGE = 2**3, 2**26
"""Bytes whose transfers give the delay and the speed of a link between nodes."""

ONE_RANK = "one rank on each node"

Pair = tuple[int, int]
"""A rank that sends, and the one that receives."""


@final
@dataclass(frozen=True, slots=True)
class Ranks:
    """All ranks by number, and how many of them share a node."""

    rank: int
    size: int
    per_node: int

    @classmethod
    def of(cls, world: World) -> "Ranks":
        size = int(os.environ["WORLD_SIZE"])
        return cls(world.rank, size, int(os.environ.get("LOCAL_WORLD_SIZE", size)))

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of ranks of a node that are measured together: 2, all, and one between."""
        wanted = {2, 4 if self.per_node >= 8 else 2, self.per_node}
        return tuple(count for count in sorted(wanted) if 2 <= count <= self.per_node)

    def teams(self, count: int) -> Iterator[tuple[int, ...]]:
        """Consecutive ranks of a node, `count` each; those left over are in none."""
        for node in range(0, self.size, self.per_node):
            for first in range(node, node + self.per_node - count + 1, count):
                yield tuple(range(first, first + count))

    @property
    def neighbours(self) -> list[Pair]:
        """Pairs of ranks of the same node."""
        return [(team[0], team[1]) for team in self.teams(2)]

    @property
    def counterparts(self) -> list[Pair]:
        """Pairs of ranks at the same place of two nodes."""
        nodes = range(0, self.size - self.per_node, 2 * self.per_node)
        return [(node + rank, node + self.per_node + rank) for node in nodes for rank in range(self.per_node)]


def groups_for(world: World, ranks: Ranks) -> Groups:
    """The groups of everything that is measured here, made in one order on all ranks."""
    teams = dict.fromkeys(team for count in ranks.counts for team in ranks.teams(count))
    wanted = [Communicator(collective_name(team), team) for team in teams]
    pairs = (*ranks.neighbours, *ranks.counterparts)
    wanted += [Communicator(_pair_name(pair), pair, True) for pair in pairs]
    return make_groups(world, wanted, tuple(range(ranks.size)))


def _pair_name(pair: Pair) -> str:
    return f"calibrate[{pair[0]}>{pair[1]}]"


def collective(watch: Stopwatch, sizes: Sizes, ranks: Ranks, groups: Groups, kind: Collective) -> dict[int, Table]:
    """By the number of ranks, all teams of so many at once, then by the bytes that each rank sends."""
    if not ranks.counts:
        raise NotMeasuredError(ONE_RANK)
    found = {}
    for count in ranks.counts:
        group = team_of(ranks, groups, count)
        calls = (_idle if group is None else _CALLS[kind](group, sent, watch.device) for sent in sizes.sent_bytes)
        timings: list[Timing | None] = [watch.time_together(call) for call in calls]
        found[count] = table({"sent_bytes": floats(sizes.sent_bytes)}, timings)
    return found


def team_of(ranks: Ranks, groups: Groups, count: int) -> TensorGroup | None:
    """This rank's team of so many ranks of its node, if it is in one."""
    own = next((team for team in ranks.teams(count) if ranks.rank in team), None)
    return None if own is None else TensorGroup(groups.collective(own), own.index(ranks.rank), count)


def transfer(watch: Stopwatch, sizes: Sizes, ranks: Ranks, groups: Groups) -> Table:
    """By bytes, from the first to the second of all pairs of neighbours at once."""
    if not ranks.neighbours:
        raise NotMeasuredError(ONE_RANK)
    with _Link(ranks.rank, ranks.neighbours, groups, watch.device) as link:
        timings: list[Timing | None] = [watch.time_together(link.call(size)) for size in sizes.sent_bytes]
    return table({"bytes": floats(sizes.sent_bytes)}, timings)


def network(watch: Stopwatch, ranks: Ranks, groups: Groups) -> Network:
    """From each rank of a node to the same one of the next node, all at once."""
    if not ranks.counterparts:
        raise NotMeasuredError("one node")
    with _Link(ranks.rank, ranks.counterparts, groups, watch.device) as link:
        small, large = (watch.time_together(link.call(size)).seconds for size in (_SMALL, _LARGE))
    return Network(bytes_per_second=_LARGE / max(large - small, large / 10), latency_seconds=small)


@final
class _Link:
    """This rank's end of its pair, if it has one."""

    def __init__(self, rank: int, pairs: Sequence[Pair], groups: Groups, device: torch.device) -> None:
        self._rank, self._device = rank, device
        self._pair = next((pair for pair in pairs if rank in pair), None)
        self._channel: Channel | None = None
        if self._pair is not None:
            name = _pair_name(self._pair)
            self._channel = open_channel(name, groups.named[name], device)

    def __enter__(self) -> "_Link":
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._channel is not None:
            self._channel.close()

    def call(self, size_bytes: int) -> Call:
        """Send or receive so many bytes."""
        if self._pair is None or self._channel is None:
            return _idle
        channel, rows = self._channel, torch.zeros(max(size_bytes // _FLOAT_BYTES, 1), device=self._device)
        source, target = self._pair
        sends, receives = ([(target, rows)], []) if self._rank == source else ([], [(source, rows)])
        return lambda: channel.exchange(sends, receives).wait()


def _idle() -> None:
    """The part of a rank that is left over."""


def _shard(sent: float, group: TensorGroup, device: torch.device) -> Tensor:
    """What one rank holds of a tensor, if it sends so many bytes to gather it."""
    return torch.zeros(max(int(sent / _FLOAT_BYTES / (group.size - 1)), 1), device=device)


def _all_gather(group: TensorGroup, sent: int, device: torch.device) -> Call:
    shard = _shard(sent, group, device)
    whole = shard.new_empty(shard.numel() * group.size)
    return lambda: group.all_gather(shard, whole)


def _reduce_scatter(group: TensorGroup, sent: int, device: torch.device) -> Call:
    whole = _shard(sent, group, device).repeat(group.size)
    return lambda: group.reduce_scatter(whole)


def _all_reduce(group: TensorGroup, sent: int, device: torch.device) -> Call:
    whole = _shard(sent / 2, group, device).repeat(group.size)
    return lambda: group.all_reduce(whole)


def _all_to_all(group: TensorGroup, sent: int, device: torch.device) -> Call:
    parts = _shard(sent, group, device).repeat(group.size, 1)
    return lambda: group.all_to_all(parts)


_CALLS: dict[Collective, Callable[[TensorGroup, int, torch.device], Call]] = {
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_reduce": _all_reduce,
    "all_to_all": _all_to_all,
}
