"""How long a world takes to start: a model of its ranks joining, making groups in one order, and meeting their peers.

Making a communicator blocks all of its ranks, so the slowest way through the plan's order counts. What the model rests
on is a value of `StartUpCosts`, each with its source; docs/scaling.md discusses them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from counterpoint.plan.action import Direction
from counterpoint.plan.plan import Plan
from counterpoint.plan.tree import FAN_OUT, branches


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUpCosts:
    """Seconds of the steps of starting: a group of `n` ranks costs the first figure and `n` times the second.

    `passing` is a group that a rank is not in (measured with torch 2.13: 56 microseconds for 2 ranks, 9.9 ms for
    16,383). `device` is a communicator of GPUs that starts (assumed: NCCL's 0.2 s in a node, and 1 ms a rank). `host`
    is a group of gloo (measured: benchmarks/startup.py). `hello` is what rank 0 needs to welcome a rank at the store
    (assumed: three requests of 50 microseconds), `peer` the first message to a rank (assumed).
    """

    passing: tuple[float, float] = (55e-6, 0.6e-6)
    device: tuple[float, float] = (0.2, 1e-3)
    host: tuple[float, float] = (2.5e-3, 2.5e-3)
    hello: float = 150e-6
    peer: float = 5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """What starting takes: groups of devices and of hosts, the most of a rank, and seconds by step.

    `most_joined` counts the groups of a rank, its own included; `most_connections` are a host's with other hosts, in
    both trees, and `most_peers` the connections of a rank over links, of the first rank of each stage.
    """

    communicators: int
    host_groups: int
    most_joined: int
    most_connections: int
    most_peers: int
    joining_seconds: float
    communicators_seconds: float
    hosts_seconds: float
    peers_seconds: float

    @property
    def seconds(self) -> float:
        """From the first process to the last connection."""
        return self.joining_seconds + self.communicators_seconds + self.hosts_seconds + self.peers_seconds

    def __str__(self) -> str:
        return (
            f"{self.communicators:,} communicators and {self.host_groups:,} groups of hosts, at most "
            f"{self.most_joined} of a rank; at most {self.most_peers} connections of a rank over links, "
            f"{self.most_connections} of a host; on GPUs about {self.seconds:.1f} s, of which "
            f"{self.joining_seconds:.1f} until all ranks are there, {self.communicators_seconds:.1f} for "
            f"communicators, {self.hosts_seconds:.1f} for groups of hosts, {self.peers_seconds:.1f} for connections"
        )


def start_up(plan: Plan, costs: StartUpCosts | None = None, fan_out: int = FAN_OUT) -> StartUp:
    """The number of groups of a plan, and the modelled seconds until its ranks can train."""
    costs = StartUpCosts() if costs is None else costs
    active = plan.placement.active
    device = [communicator.ranks for communicator in plan.communicators]
    tree = [branch.ranks for branch in branches(active, fan_out)]
    hosts = [*tree, *tree]
    joined, connected = dict.fromkeys(active, 1), dict.fromkeys(active, 0)
    for ranks in (*device, *hosts):
        for rank in ranks:
            joined[rank] += 1
    for ranks in hosts:
        for rank in ranks:
            connected[rank] += len(ranks) - 1
    peers = max((_peers(plan, rank) for rank in _first_ranks(plan)), default=0)
    return StartUp(
        communicators=len(device),
        host_groups=len(hosts),
        most_joined=max(joined.values(), default=0),
        most_connections=max(connected.values(), default=0),
        most_peers=peers,
        joining_seconds=costs.hello * plan.placement.world_size,
        communicators_seconds=_in_order(device, costs.passing, costs.device),
        hosts_seconds=_in_order(hosts, costs.passing, costs.host),
        peers_seconds=costs.peer * peers,
    )


def _first_ranks(plan: Plan) -> Iterable[int]:
    return {ranks[0] for ranks in plan.stages.ranks.values()}


def _peers(plan: Plan, rank: int) -> int:
    """The connections of a rank over links, those of both directions counted twice, as they have two communicators."""
    met = (plan.peers(link, direction, rank) for link in plan.stages.links for direction in Direction)
    return sum(len({*receivers, *senders}) for receivers, senders in met)


def _in_order(groups: Sequence[tuple[int, ...]], passing: tuple[float, float], joining: tuple[float, float]) -> float:
    """Seconds until all ranks have made all groups in order: a group starts once its last member has come to it."""
    # All ranks pass every group; `behind` is how much later a rank is than one that has only passed.
    passed, behind = 0.0, dict[int, float]()
    for ranks in groups:
        begun = max(behind.get(rank, 0.0) for rank in ranks)
        later = begun + joining[0] + joining[1] * len(ranks)
        passed += passing[0] + passing[1] * len(ranks)
        for rank in ranks:
            behind[rank] = later
    return passed + max(behind.values(), default=0.0)
