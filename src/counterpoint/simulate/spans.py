"""How far the groups of a plan reach on hardware: their ranks, and the nodes that these lie on."""

from typing import final

from counterpoint.plan.graph import Node
from counterpoint.plan.plan import Plan

AXES = ("dp_shard", "dp_replicate", "cp", "tp", "ep", "edp")


@final
class Spans:
    """Of the groups of a plan's ranks, on nodes of `ranks_per_node`."""

    def __init__(self, plan: Plan, ranks_per_node: int) -> None:
        self._plan, self._ranks_per_node = plan, ranks_per_node
        self._known: dict[tuple[str, int, str], tuple[int, int]] = {}
        self._every: dict[tuple[str, int], tuple[tuple[int, int], ...]] = {}

    def of(self, node: Node, rank: int, axis: str) -> tuple[int, int]:
        """The ranks of a rank's group, and the nodes that they lie on."""
        key = (node.module, rank, axis)
        if key not in self._known:
            ranks = self._plan.layouts[node.module].group(axis, rank)
            self._known[key] = len(ranks), self.nodes(ranks)
        return self._known[key]

    def every(self, node: Node, rank: int) -> tuple[tuple[int, int], ...]:
        """Those of all of a rank's groups, by which ranks cost the same."""
        key = node.module, rank
        if key not in self._every:
            self._every[key] = tuple(self.of(node, rank, axis) for axis in AXES)
        return self._every[key]

    def nodes(self, ranks: tuple[int, ...]) -> int:
        """The number of nodes that ranks lie on."""
        return len({rank // self._ranks_per_node for rank in ranks})
