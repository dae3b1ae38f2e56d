"""Graphs order their modules and refuse what is not a graph of them."""

import pytest

from counterpoint.errors import ConfigError
from counterpoint.plan.graph import Edge, Graph, stage_links, stage_nodes


def test_modules_are_in_topological_order_and_links_follow_stages() -> None:
    graph = Graph.build(("language", "vision"), (Edge("vision", "language"),))
    assert graph.modules == ("vision", "language")
    assert graph.sinks == ("language",)
    stages = {"vision": 1, "language": 2}
    assert [str(node) for node in stage_nodes(graph, stages)] == ["vision.0", "language.0", "language.1"]
    assert [str(link) for link in stage_links(graph, stages)] == [
        "language.0>language.1",
        "vision.0>language.0",
    ]


def test_cycles_and_unknown_modules_are_refused() -> None:
    with pytest.raises(ConfigError, match="names the module 'video', expected one of"):
        Graph.build(("language",), (Edge("video", "language"),))
    with pytest.raises(ConfigError, match=r"got the cycle (a > b > a|b > a > b)"):
        Graph.build(("a", "b"), (Edge("a", "b"), Edge("b", "a")))
