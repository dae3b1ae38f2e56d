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
    assert [str(link) for link in stage_links(graph, stages, lambda _module, layer: layer)] == [
        "language.0>language.1",
        "vision.0>language.0",
    ]


def test_features_of_several_depths_leave_and_enter_where_their_layers_are() -> None:
    graph = Graph.build(("vision", "language"), (Edge("vision", "language", ((0, 1), (3, 2))),))
    links = stage_links(graph, {"vision": 2, "language": 2}, lambda _module, layer: layer // 2)
    assert [str(link) for link in links[2:]] == [
        "vision.1>language.0",
        "vision.0>language.0/0-1",
        "vision.1>language.1/3-2",
    ]
    assert [link.port for link in links[2:]] == ["", "d0", "d3"]


def test_the_roots_of_a_module_are_those_that_it_reads_in_the_end() -> None:
    edges = (Edge("a", "c"), Edge("b", "c"), Edge("c", "d"), Edge("d", "language"))
    graph = Graph.build(("language", "a", "b", "c", "d"), edges)
    assert graph.roots("d") == {"a", "b"}
    assert graph.roots("a") == frozenset()


def test_cycles_and_unknown_modules_are_refused() -> None:
    with pytest.raises(ConfigError, match="names the module 'video', expected one of"):
        Graph.build(("language",), (Edge("video", "language"),))
    with pytest.raises(ConfigError, match=r"got the cycle (a > b > a|b > a > b)"):
        Graph.build(("a", "b"), (Edge("a", "b"), Edge("b", "a")))
