"""The module graph: modules, the edges between them, and the stages and links that they expand to."""

from collections.abc import Callable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from counterpoint.errors import ConfigError
from counterpoint.plan.hashed import Hashed
from counterpoint.section.connection import Connection


@dataclass(frozen=True, slots=True)
class Edge(Connection):
    """A connection of two modules.

    Beside the rows that leave the source's last part, features of several depths may cross: for each pair in `depths`,
    those after the source's layer `after` enter after the target's layer `into`.
    """

    depths: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.source}>{self.target}"


@dataclass(frozen=True, slots=True, order=True)
class Node(Hashed):
    """One pipeline stage of one module: what a compute action runs on."""

    module: str
    stage: int

    __hash__ = Hashed.__hash__

    def hashed(self) -> tuple[object, ...]:
        return self.module, self.stage

    def __str__(self) -> str:
        return f"{self.module}.{self.stage}"


@dataclass(frozen=True, slots=True, order=True)
class Link(Hashed):
    """Where rows travel: between two stages of a module, from a module's last stage to another's first, or from the
    stage with the source's layer `after` to the one with the target's layer `into`; one link for each port of an edge.
    """

    source: Node
    target: Node
    after: int = -1
    into: int = -1

    __hash__ = Hashed.__hash__

    def hashed(self) -> tuple[object, ...]:
        return self.source, self.target, self.after, self.into

    @property
    def is_hop(self) -> bool:
        """Whether the link joins two stages of one module."""
        return self.source.module == self.target.module

    @property
    def port(self) -> str:
        """The name of the source's output that crosses: empty for the rows that leave its last part."""
        return "" if self.after < 0 else f"d{self.after}"

    def __str__(self) -> str:
        depth = "" if self.after < 0 else f"/{self.after}-{self.into}"
        return f"{self.source}>{self.target}{depth}"


@dataclass(frozen=True, slots=True)
class Graph:
    """A directed acyclic graph of modules; `modules` is kept in topological order."""

    modules: tuple[str, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def build(cls, modules: tuple[str, ...], edges: tuple[Edge, ...]) -> "Graph":
        """Order the modules; raises ConfigError for an unknown module or a cycle."""
        sorter: TopologicalSorter[str] = TopologicalSorter({name: [] for name in modules})
        for edge in edges:
            for end in (edge.source, edge.target):
                if end not in modules:
                    raise ConfigError(
                        f"edges: {edge} names the module {end!r}, expected one of {list(modules)}; "
                        "add the module or correct the edge"
                    )
            sorter.add(edge.target, edge.source)
        try:
            return cls(tuple(sorter.static_order()), edges)
        except CycleError as error:
            cycle = " > ".join(reversed(error.args[1]))
            raise ConfigError(
                f"edges: got the cycle {cycle}, expected a graph without cycles; remove an edge"
            ) from None

    def incoming(self, module: str) -> tuple[Edge, ...]:
        """Edges that end in a module."""
        return tuple(edge for edge in self.edges if edge.target == module)

    def outgoing(self, module: str) -> tuple[Edge, ...]:
        """Edges that start from a module."""
        return tuple(edge for edge in self.edges if edge.source == module)

    def roots(self, module: str) -> frozenset[str]:
        """The modules without an incoming edge whose rows reach a module; none for such a module itself."""
        sources = [edge.source for edge in self.incoming(module)]
        return frozenset().union(*(self.roots(source) or {source} for source in sources))

    @property
    def sinks(self) -> tuple[str, ...]:
        """Modules without an outgoing edge: where losses are."""
        return tuple(module for module in self.modules if not self.outgoing(module))


def stage_nodes(graph: Graph, stages: dict[str, int]) -> tuple[Node, ...]:
    """All nodes in topological order; `stages` is the number of them per module."""
    return tuple(Node(module, stage) for module in graph.modules for stage in range(stages[module]))


def stage_links(graph: Graph, stages: dict[str, int], stage_of: Callable[[str, int], int]) -> tuple[Link, ...]:
    """All links: every pipeline hop, then every edge's ports; `stage_of(module, layer)` is the stage with a layer."""
    hops = [
        Link(Node(module, stage), Node(module, stage + 1))
        for module in graph.modules
        for stage in range(stages[module] - 1)
    ]
    ports = []
    for edge in graph.edges:
        ports.append(Link(Node(edge.source, stages[edge.source] - 1), Node(edge.target, 0)))
        for after, into in edge.depths:
            source, target = stage_of(edge.source, after), stage_of(edge.target, into)
            ports.append(Link(Node(edge.source, source), Node(edge.target, target), after, into))
    return (*hops, *ports)
