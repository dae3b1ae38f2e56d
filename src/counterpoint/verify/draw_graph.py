"""Random parts of a config's graph: which encoders, adapters and depths take part, and what of them is trained."""

import random
from collections.abc import Callable
from typing import Any

from counterpoint.config.models import AdapterConfig, DecoderConfig
from counterpoint.config.schema import Config, EdgeConfig

_KEPT_EDGES = 0.75
_ALONE = 0.1
"""The share of cases that are a language model alone, where the config has more."""

Train = str | list[str]


def draw_graph(base: Config, generator: random.Random, language: str) -> tuple[list[str], list[dict[str, Any]]]:
    """Modules and edges of a part of the graph in which every encoder reaches the language model."""
    if not base.edges or generator.random() < _ALONE:
        return [language], []
    drawn = [edge for edge in base.edges if generator.random() < _KEPT_EDGES]
    edges = _connected(base, drawn, language) or list(base.edges)
    names = {language, *(edge.source for edge in edges)}
    return [name for name in base.modules if name in names], [_edge(edge, generator) for edge in edges]


def _connected(base: Config, edges: list[EdgeConfig], language: str) -> list[EdgeConfig]:
    """The edges on a way from an encoder of images to the language model."""
    reaching = _spread(edges, {language}, lambda edge: (edge.target, edge.source))
    roots = {name for name, module in base.modules.items() if not isinstance(module.model, AdapterConfig)}
    fed = _spread(edges, roots, lambda edge: (edge.source, edge.target))
    return [edge for edge in edges if edge.target in reaching and edge.source in fed]


def _spread(edges: list[EdgeConfig], seen: set[str], ends: Callable[[EdgeConfig], tuple[str, str]]) -> set[str]:
    """What can be reached from some modules along edges, each from the first of its ends to the second."""
    found = set(seen)
    for _ in edges:
        found |= {there for here, there in map(ends, edges) if here in found}
    return found


def _edge(edge: EdgeConfig, generator: random.Random) -> dict[str, Any]:
    depths = edge.model_dump()["depths"] if generator.random() < 0.6 else []
    return edge.model_dump() | {"depths": list(depths)}


def draw_training(base: Config, generator: random.Random, names: list[str]) -> dict[str, dict[str, Any]]:
    """What is trained and what is computed again of some modules; something is always trained."""
    train = {name: _draw_train(base, generator, name) for name in names}
    if all(value == "none" for value in train.values()):
        train[generator.choice(names)] = "all"
    return {name: {"train": train[name], "recompute": _draw_recompute(base, generator, name)} for name in names}


def _draw_train(base: Config, generator: random.Random, name: str) -> Train:
    if generator.random() < 0.5:
        return "all"
    model = base.modules[name].model
    options: list[Train] = ["none", "none", ["*norm*"], ["layers.[0-2].*"], ["*.attention.*", "norm.weight"]]
    if not isinstance(model, DecoderConfig):
        options += [["projector.*"], ["projector.*"]]
    elif model.moe is not None:
        options += [["*.experts.*", "embed.*"]]
    return generator.choice(options)


def _draw_recompute(base: Config, generator: random.Random, name: str) -> str | list[str]:
    model = base.modules[name].model
    kinds = sorted(set(model.pattern)) if isinstance(model, DecoderConfig) else ["L"]
    options: list[str | list[str]] = ["none", "none", "full", generator.sample(kinds, generator.randint(1, len(kinds)))]
    return generator.choice(options)
