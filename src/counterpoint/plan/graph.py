"""The module graph: modules, the edges between them, and the stages and links that they expand to."""

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from counterpoint.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Edge:
    """Rows of `source` that enter `target`; a port is one tensor that crosses."""

    source: str
    target: str
    port: str = "features"

    def __str__(self) -> str:
        return f"{self.source}>{self.target}"


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """One pipeline stage of one module: what a compute action runs on."""

    module: str
    stage: int

    def __str__(self) -> str:
        return f"{self.module}.{self.stage}"


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """Where rows travel: between two stages of a module, or from a module's last stage to another's first."""

    source: Node
    target: Node

    @property
    def is_hop(self) -> bool:
        """Whether the link joins two stages of one module."""
        return self.source.module == self.target.module

    def __str__(self) -> str:
        return f"{self.source}>{self.target}"


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

    @property
    def sinks(self) -> tuple[str, ...]:
        """Modules without an outgoing edge: where losses are."""
        return tuple(module for module in self.modules if not self.outgoing(module))


def stage_nodes(graph: Graph, stages: dict[str, int]) -> tuple[Node, ...]:
    """All nodes in topological order; `stages` is the pipeline degree per module."""
    return tuple(Node(module, stage) for module in graph.modules for stage in range(stages[module]))


def stage_links(graph: Graph, stages: dict[str, int]) -> tuple[Link, ...]:
    """All links: every pipeline hop, then every edge."""
    hops = [
        Link(Node(module, stage), Node(module, stage + 1))
        for module in graph.modules
        for stage in range(stages[module] - 1)
    ]
    edges = [Link(Node(edge.source, stages[edge.source] - 1), Node(edge.target, 0)) for edge in graph.edges]
    return (*hops, *edges)
