"""The input of a schedule: nodes with their ranks and links, and which action needs which.

Each module cuts a step's microbatches in its own way: an encoder may take several of the language model's at once. A
link is exchanged in the finer of the two cuts, so that neither side waits for rows that it does not need.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import lcm
from typing import Literal, NamedTuple

from counterpoint.plan.action import Action, Compute, Direction, Reduce, Step, Transfer, Work
from counterpoint.plan.collectives import Collectives
from counterpoint.plan.graph import Link, Node

EncoderOrder = Literal["just_in_time", "first", "fill"]
"""When encoders run: before the step's other work, when their rows are needed, or where a rank has nothing else."""

FORWARD_UNITS, INPUT_UNITS, WEIGHT_UNITS = 1, 1, 1
"""Unit costs of a stage on one microbatch: forward, and the two halves of backward."""


class StageCosts(NamedTuple):
    """Costs of a stage on one microbatch of its module, in whole units that all stages of a graph share."""

    forward: int
    inputs: int
    weights: int


@dataclass(frozen=True)
class Stages:
    """Nodes in topological order with their ranks, and the links between them.

    By module, `groups` is the number of the step's microbatches that one of its own covers, `chunks` the number of its
    nodes on each of its ranks, `weights` the relative cost of a forward of all of these; each is 1 if not listed.
    `costs` are given for all nodes, and then `weights` do not count, or for none.
    `trained` are the nodes with a trained parameter, None for all. Modules in `ahead` compute this many steps ahead.
    `encoder` says when modules without documents run, `buffer` how many microbatches they may be ahead, None for the
    schedule's own bound. `collectives` are those of nodes; where none are listed, all ranks of a node meet at its first
    compute and in its reduction.
    """

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    ranks: Mapping[Node, tuple[int, ...]]
    groups: Mapping[str, int] = field(default_factory=dict)
    chunks: Mapping[str, int] = field(default_factory=dict)
    trained: frozenset[Node] | None = None
    ahead: Mapping[str, int] = field(default_factory=dict)
    encoder: EncoderOrder = "just_in_time"
    buffer: int | None = None
    weights: Mapping[str, int] = field(default_factory=dict)
    costs: Mapping[Node, StageCosts] = field(default_factory=dict)
    collectives: Mapping[Node, Collectives] = field(default_factory=dict)

    def incoming(self, node: Node) -> tuple[Link, ...]:
        """Links that end in a node."""
        return self._incoming.get(node, ())

    def outgoing(self, node: Node) -> tuple[Link, ...]:
        """Links that start from a node."""
        return self._outgoing.get(node, ())

    def depth(self, node: Node) -> int:
        """Nodes on the longest path from `node` to a sink, both counted."""
        return self._depths[node]

    @cached_property
    def world(self) -> tuple[int, ...]:
        """All ranks that have a node, ascending."""
        return tuple(sorted(self._nodes_of))

    def nodes_of(self, rank: int) -> tuple[Node, ...]:
        """The nodes of a rank, none if it is not of the world; ranks with the same nodes share the tuple."""
        return self._nodes_of.get(rank, ())

    @cached_property
    def by_nodes(self) -> dict[tuple[Node, ...], tuple[int, ...]]:
        """The ranks of the world by the nodes that they have, in the order of the lowest."""
        by_nodes: dict[tuple[Node, ...], list[int]] = {}
        for rank in self.world:
            by_nodes.setdefault(self._nodes_of[rank], []).append(rank)
        return {nodes: tuple(ranks) for nodes, ranks in by_nodes.items()}

    @cached_property
    def _nodes_of(self) -> dict[int, tuple[Node, ...]]:
        numbers: dict[int, list[int]] = {}
        for number, node in enumerate(self.nodes):
            for rank in self.ranks[node]:
                numbers.setdefault(rank, []).append(number)
        known: dict[tuple[int, ...], tuple[Node, ...]] = {}
        found = {}
        for rank, own in numbers.items():
            key = tuple(own)
            if key not in known:
                known[key] = tuple(self.nodes[number] for number in own)
            found[rank] = known[key]
        return found

    @cached_property
    def sinks(self) -> frozenset[str]:
        """Modules that no edge leaves: those whose rows are documents."""
        left = {link.source.module for link in self.links if not link.is_hop}
        return frozenset(node.module for node in self.nodes if node.module not in left)

    def group(self, module: str) -> int:
        """Microbatches of the step that one microbatch of a module covers."""
        return self.groups.get(module, 1)

    def count(self, module: str, microbatches: int) -> int:
        """Microbatches of a module in a step of `microbatches`; the last may cover fewer than a group."""
        return -(-microbatches // self.group(module))

    def grain(self, link: Link) -> int:
        """Microbatches of the step that one exchange of a link covers."""
        return min(self.group(link.source.module), self.group(link.target.module))

    def exchanges(self, link: Link, microbatches: int) -> int:
        """Exchanges of a link, in each direction, in a step of `microbatches`."""
        return -(-microbatches // self.grain(link))

    def source_microbatch(self, link: Link, exchange: int) -> int:
        """The source's microbatch whose rows an exchange carries."""
        return exchange * self.grain(link) // self.group(link.source.module)

    def target_microbatch(self, link: Link, exchange: int) -> int:
        """The target's microbatch that an exchange reaches."""
        return exchange * self.grain(link) // self.group(link.target.module)

    def into(self, link: Link, microbatch: int, microbatches: int) -> range:
        """The exchanges of a link that one microbatch of its target reads."""
        return _part(self.group(link.target.module) // self.grain(link), microbatch, self.exchanges(link, microbatches))

    def out_of(self, link: Link, microbatch: int, microbatches: int) -> range:
        """The exchanges of a link that one microbatch of its source fills."""
        return _part(self.group(link.source.module) // self.grain(link), microbatch, self.exchanges(link, microbatches))

    def trains(self, node: Node) -> bool:
        """Whether a node has a trained parameter, and so a reduction and weight gradients."""
        return self.trained is None or node in self.trained

    def has_backward(self, node: Node) -> bool:
        """Whether a gradient is needed at a node: it trains, or a node does whose rows it reads."""
        return node in self._reached

    def carries_gradient(self, link: Link) -> bool:
        """Whether gradients go back along a link."""
        return self.has_backward(link.source)

    def collectives_of(self, node: Node) -> Collectives:
        """Which ranks of a node communicate with each other, and when."""
        every = (self.ranks[node],)
        return self.collectives.get(node, Collectives(first=every, every=(), last=every))

    def steps_ahead(self, node: Node) -> int:
        """Steps that a node computes ahead of those that wait for the step's end."""
        return self.ahead.get(node.module, 0)

    def forward(self, node: Node, microbatch: int) -> Compute:
        """The forward action of a node in a training step."""
        return Compute(node, Work.FORWARD, microbatch, self.steps_ahead(node))

    def transfer(self, link: Link, direction: Direction, exchange: int) -> Transfer:
        """The exchange of a link in a training step; what ran ahead leaves its module in the step that needs it."""
        return Transfer(link, direction, exchange, self._crosses(link, self.steps_ahead(link.source)))

    def reads(self, action: Compute, microbatches: int) -> Iterator[Transfer]:
        """The transfers that bring what a compute action of a training step reads, for any batch."""
        match action.work:
            case Work.FORWARD:
                for link in self.incoming(action.node):
                    ahead = self._crosses(link, action.ahead)
                    for exchange in self.into(link, action.microbatch, microbatches):
                        yield Transfer(link, Direction.FORWARD, exchange, ahead)
            case Work.BACKWARD | Work.INPUT:
                for link in self.outgoing(action.node):
                    for exchange in self.out_of(link, action.microbatch, microbatches):
                        yield Transfer(link, Direction.BACKWARD, exchange)

    def gives(self, action: Compute, microbatches: int) -> Iterator[Transfer]:
        """The transfers that send what a compute action of a training step made, for any batch."""
        match action.work:
            case Work.FORWARD:
                for link in self.outgoing(action.node):
                    ahead = self._crosses(link, action.ahead)
                    for exchange in self.out_of(link, action.microbatch, microbatches):
                        yield Transfer(link, Direction.FORWARD, exchange, ahead)
            case Work.BACKWARD | Work.INPUT:
                for link in filter(self.carries_gradient, self.incoming(action.node)):
                    for exchange in self.into(link, action.microbatch, microbatches):
                        yield Transfer(link, Direction.BACKWARD, exchange)

    def units(self, action: Compute) -> int:
        """The cost of an action in whole units; the forward of an undivided stage of weight 1 takes `unit_scale`."""
        forward, inputs, weights = self._costs[action.node]
        if action.work is Work.BACKWARD and not self.trains(action.node):
            return inputs
        return action.work.of(forward, inputs, weights)

    def cost(self, action: Compute) -> float:
        """The cost of an action in the unit of `costs`; without, the forward of a stage of weight 1 on one of the
        step's microbatches costs 1."""
        return self.units(action) / self.unit_scale

    @cached_property
    def unit_scale(self) -> int:
        """The smallest number that every module's chunks divide, or 1 where costs are given."""
        return 1 if self.costs else lcm(*(self.chunks.get(node.module, 1) for node in self.nodes))

    @cached_property
    def _costs(self) -> Mapping[Node, StageCosts]:
        if self.costs:
            return self.costs
        sizes = {
            module: self.weights.get(module, 1) * self.group(module) * self.unit_scale // self.chunks.get(module, 1)
            for module in dict.fromkeys(node.module for node in self.nodes)
        }
        units = (FORWARD_UNITS, INPUT_UNITS, WEIGHT_UNITS)
        return {node: StageCosts(*(sizes[node.module] * unit for unit in units)) for node in self.nodes}

    def _crosses(self, link: Link, ahead: int) -> int:
        """How many steps ahead a transfer of rows made `ahead` is: 0 into a module that does not run ahead."""
        return ahead if self.steps_ahead(link.target) else 0

    @cached_property
    def _reached(self) -> frozenset[Node]:
        reached: set[Node] = set()
        for node in self.nodes:
            if self.trains(node) or any(link.source in reached for link in self.incoming(node)):
                reached.add(node)
        return frozenset(reached)

    @cached_property
    def _incoming(self) -> dict[Node, tuple[Link, ...]]:
        return _grouped(self.links, lambda link: link.target)

    @cached_property
    def _outgoing(self) -> dict[Node, tuple[Link, ...]]:
        return _grouped(self.links, lambda link: link.source)

    @cached_property
    def _depths(self) -> dict[Node, int]:
        depths: dict[Node, int] = {}
        for node in reversed(self.nodes):
            depths[node] = 1 + max((depths[link.target] for link in self.outgoing(node)), default=0)
        return depths


def is_on(action: Action, nodes: Collection[Node]) -> bool:
    """Whether an action stands in the programs of ranks that have these nodes; none does on ranks without nodes."""
    match action:
        case Compute(node=node) | Reduce(node=node):
            return node in nodes
        case Transfer(link=link):
            return link.source in nodes or link.target in nodes
        case Step():
            return bool(nodes)


def action_ranks(action: Action, stages: Stages) -> tuple[int, ...]:
    """The ranks in whose programs an action stands."""
    match action:
        case Compute(node=node) | Reduce(node=node):
            return stages.ranks[node]
        case Transfer(link=link):
            return tuple(sorted({*stages.ranks[link.source], *stages.ranks[link.target]}))
        case Step():
            return stages.world


def _part(size: int, number: int, total: int) -> range:
    return range(number * size, min((number + 1) * size, total))


def _grouped(links: tuple[Link, ...], end: Callable[[Link], Node]) -> dict[Node, tuple[Link, ...]]:
    groups: dict[Node, tuple[Link, ...]] = {}
    for link in links:
        groups[end(link)] = (*groups.get(end(link), ()), link)
    return groups
